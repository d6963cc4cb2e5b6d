// What an access log comes to, by resource and backend.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "userspace/access_log/access_log_entry.h"
#include "userspace/account_table.h"
#include "userspace/http_account.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/snapshot.h"
#include "userspace/state/http_state.h"

namespace pangolin {

// A request counts here or in the kernel, never in both, by what Traefik dialled for it: TLS and HTTP/2
// (methods https and h2c), and hosts that are names, are for the access log alone; what the kernel reads is
// the kernel's, and is in add_to() only where the kernel reads nothing. Sizes are those of bodies, because
// the log has no others. Totals only grow. Not thread-safe.
class AccessLogAccounts {
  public:
    // The directory that holds from now on. What targets had that it does not have goes as it goes from the
    // ledger (Ledger::forget_unused()).
    void sites_changed(std::shared_ptr<const SiteDirectory> directory,
                       std::chrono::steady_clock::time_point now);
    // A request that Traefik sent to a backend, or tried to. Others are none of a target's.
    void add(const AccessLogEntry& entry);
    // Adds to the targets and backends of `snapshot`; without `kernel_reads_http` those in the clear as well.
    void add_to(Snapshot& snapshot, bool kernel_reads_http) const;

    // For the next process.
    void save(ArchiveWriter& writer) const;
    // What cannot be read is left as it was.
    void restore(ArchiveReader& reader);

    // Entries of Pangolin's services whose target cannot be told: it is not known (any more), or the log does
    // not keep ServiceURL and the resource has several.
    std::uint64_t unattributed() const { return unattributed_; }

  private:
    struct Exchanges {
        TargetLabels labels;
        HttpExchanges exchanges;
    };
    // Of all resources at the backend.
    struct Sizes {
        BackendLabels labels;
        HttpResponseSizes sizes;
    };
    struct Accounts {
        AccountTable<3, Exchanges> exchanges;
        AccountTable<2, Sizes> sizes;

        HttpExchanges& exchanges_of(const TargetLabels& labels);
        HttpResponseSizes& sizes_of(const BackendLabels& labels);
    };
    friend std::array<std::string_view, 3> labels_of(const Exchanges& account) {
        return {account.labels.site_id, account.labels.resource_id, account.labels.backend};
    }
    friend std::array<std::string_view, 2> labels_of(const Sizes& account) {
        return {account.labels.site_id, account.labels.backend};
    }
    // By site, resource and backend; sizes by site, "" and backend.
    struct Counts {
        HttpExchanges exchanges;
        HttpResponseSizes sizes;
    };
    using Written = std::map<std::array<std::string, 3>, Counts>;
    template <class Archive>
    friend void fields(Archive& archive, Counts& counts) {
        archive(counts.exchanges, counts.sizes);
    }
    static Written written(const Accounts& accounts);
    static Accounts read(const Written& written);

    void forget_unused(const AccountReview& review);
    TargetLabels labels_of_target(const Target& target) const;

    const Target* find_target(const AccessLogEntry& entry) const;
    bool kernel_can_read(const AccessLogEntry& entry, const Target& target) const;

    std::shared_ptr<const SiteDirectory> directory_ = std::make_shared<const SiteDirectory>();
    std::multimap<TargetAddress, const Target*> by_address_;
    // By Resource::number.
    std::multimap<std::int64_t, const Target*> by_resource_;
    Accounts opaque_;
    Accounts clear_;
    std::uint64_t unattributed_ = 0;
    // By add_to().
    mutable std::optional<std::chrono::steady_clock::time_point> published_;
};

}  // namespace pangolin
