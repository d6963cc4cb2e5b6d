// From single exchanges and messages of Pangolin's to counts.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "bpf/shared/http.h"
#include "loader/pangolin_process.h"
#include "userspace/control_plane/control_counts.h"
#include "userspace/control_plane/routes.h"
#include "userspace/control_plane/token_sites.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

// Takes the kernel's events one after the other. Nothing of them is kept but what ControlCounts says, and of
// a WebSocket the site that it belongs to. Not thread-safe.
class ControlAccounts {
  public:
    using Clock = std::chrono::steady_clock;

    explicit ControlAccounts(const PangolinPorts& ports);

    void count(const http_exchange& exchange, Clock::time_point now);
    void count(const http_frame& frame);
    void close(const http_event& event);

    // Whose resources and WebSockets they are. WebSockets that are waiting for their site may have it now.
    // What was counted of sites and resources that it does not have any more is forgotten after a while
    // (account_lifetime).
    void set_directory(const SiteDirectory& directory, Clock::time_point now);
    // WebSockets whose site did not become known in time belong to none.
    void expire(Clock::time_point now);
    // Pangolin was started anew: no WebSocket is left of before.
    void forget_websockets();

    ControlCounts counts() const;
    // Counts of a process before this one, to be gone on from.
    void set_counts(ControlCounts counts) { counts_ = std::move(counts); }

    // Newt names its key with the first message; a key that is new needs the directory to be read again.
    static constexpr std::chrono::seconds patience_for_site{60};
    static constexpr std::size_t most_websockets = 65536;
    // Of one family of requests.
    static constexpr std::size_t most_series = 4096;

  private:
    // One that was accepted.
    struct WebSocket {
        Clock::time_point opened;
        std::optional<WireGuardKey> key;
        // Known, or given up; it is counted from then on.
        std::optional<std::string> site_id;
        bool closed = false;
    };
    using WebSockets = std::unordered_map<std::uint64_t, WebSocket>;

    std::optional<ControlService> service_of(const http_event& event) const;
    void count_meaning(const ControlRoute& route, const http_exchange& exchange, Clock::time_point now);
    void count_request(CountsBy<3>& requests, const ControlRoute& route, const http_exchange& exchange);
    void count_integration(const ControlRoute& route, const http_exchange& exchange);
    void count_sign_in(const ControlRoute& route, const http_exchange& exchange);
    void count_traefik_configuration(const http_exchange& exchange);
    void count_session_check(const http_exchange& exchange);
    void count_refusal(const http_exchange& exchange, std::uint16_t status);
    void count_websocket(const http_exchange& exchange, Clock::time_point now);
    void count_handshake(TokenSites::Issued& token, const http_exchange& exchange);
    void forget_gone(const SiteDirectory& directory, Clock::time_point now);
    std::string site_of_resource(std::string_view id) const;
    std::string site_of_sign_in(const ControlRoute& route, const http_exchange& exchange) const;
    void look_up_site(WebSocket& websocket);
    void settle(WebSocket& websocket, std::string_view site_id);

    PangolinPorts ports_;
    ControlCounts counts_;
    // Labels that the directory does not have, and since when.
    using Gone = std::map<std::string, Clock::time_point, std::less<>>;
    Gone gone_sites_;
    Gone gone_resources_;
    // What tells the last configuration that Traefik got from others: its ETag, or its size where it has
    // none.
    std::optional<std::pair<std::uint64_t, std::uint64_t>> configuration_;
    WebSockets websockets_;
    TokenSites tokens_;
    std::map<WireGuardKey, std::string> site_by_key_;
    // By resources.resourceId; empty where several sites serve it.
    std::map<std::int64_t, std::string> site_by_resource_;
    std::map<std::string, std::string, std::less<>> site_by_newt_;
    // By domain, in small letters; "*.example.com" for whatever is in its place.
    struct ServedResource {
        std::string resource_id;
        // Empty where several sites serve it.
        std::string site_id;
    };
    std::map<std::string, ServedResource, std::less<>> resource_by_domain_;
};

}  // namespace pangolin
