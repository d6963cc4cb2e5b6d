#include <openssl/evp.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "loader/base/number.h"
#include "userspace/wireguard/device_fields.h"
#include "userspace/wireguard/uapi_reader.h"

namespace pangolin {
namespace {

template <class Number>
bool read_number(std::string_view text, Number& value) {
    const auto number = parse_number<Number>(text);
    value = number.value_or(value);
    return number.has_value();
}

// The answer holds the private key only; WireGuard's public key is its product with Curve25519's base point.
std::optional<WireGuardKey> public_key_of(std::string_view private_key) {
    auto secret = WireGuardKey::from_hex(private_key);
    if (!secret)
        return std::nullopt;
    WireGuardKey public_key;
    if (*secret == WireGuardKey{})
        return public_key;
    std::size_t size = public_key.bytes.size();
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> pair(
        EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, secret->bytes.data(), secret->bytes.size()),
        EVP_PKEY_free);
    explicit_bzero(secret->bytes.data(), secret->bytes.size());
    if (!pair || EVP_PKEY_get_raw_public_key(pair.get(), public_key.bytes.data(), &size) != 1)
        return std::nullopt;
    return public_key;
}

class UapiParser {
  public:
    explicit UapiParser(WireGuardDevice& device) : device_(device) {
        device_.public_key = {};
        device_.listen_port = 0;
    }

    Result<void> parse(std::string_view answer) {
        for (int line = 1; !answer.empty(); ++line) {
            const auto end = answer.find('\n');
            const std::string_view text = answer.substr(0, end);
            answer.remove_prefix(end == std::string_view::npos ? answer.size() : end + 1);
            // An empty line ends the answer.
            if (text.empty())
                break;
            const auto equals = text.find('=');
            if (equals == std::string_view::npos)
                return malformed(line, "is not key=value");
            const std::string_view key = text.substr(0, equals);
            if (!set(key, text.substr(equals + 1)))
                return malformed(line, "has a bad value of '" + std::string(key) + "'");
        }
        if (!status_)
            return failure("WireGuard's UAPI answer ends early", {}, EBADMSG);
        if (*status_ != 0)
            return system_failure(*status_, "WireGuard's UAPI refused the request");
        device_.peers.resize(peers_);
        return {};
    }

  private:
    static std::unexpected<Error> malformed(int line, const std::string& what) {
        return failure("line " + std::to_string(line) + " of WireGuard's UAPI answer " + what, {}, EBADMSG);
    }

    bool set(std::string_view key, std::string_view value) {
        if (key == "public_key")
            return begin_peer(value);
        if (key == "errno")
            return set_status(value);
        return peer_ ? set_of_peer(key, value) : set_of_device(key, value);
    }

    bool set_of_device(std::string_view key, std::string_view value) {
        if (key == "listen_port")
            return read_number(value, device_.listen_port);
        if (key == "private_key") {
            const auto public_key = public_key_of(value);
            device_.public_key = public_key.value_or(WireGuardKey{});
            return public_key.has_value();
        }
        return true;
    }

    bool set_of_peer(std::string_view key, std::string_view value) {
        if (key == "allowed_ip")
            return add_allowed_ip(value);
        if (key == "rx_bytes")
            return read_number(value, peer_->receive_bytes);
        if (key == "tx_bytes")
            return read_number(value, peer_->transmit_bytes);
        if (key == "last_handshake_time_sec")
            return read_number(value, seconds_) && set_handshake_time(seconds_, nanoseconds_, *peer_);
        if (key == "last_handshake_time_nsec")
            return read_number(value, nanoseconds_) && set_handshake_time(seconds_, nanoseconds_, *peer_);
        if (key == "endpoint") {
            if (const auto endpoint = Endpoint::parse(value))
                peer_->endpoint = *endpoint;
        }
        return true;
    }

    bool begin_peer(std::string_view value) {
        const auto public_key = WireGuardKey::from_hex(value);
        if (!public_key)
            return false;
        peer_ = &reuse_peer(device_, peers_++, *public_key);
        seconds_ = nanoseconds_ = 0;
        return true;
    }

    bool add_allowed_ip(std::string_view value) {
        const auto prefix = IpPrefix::parse(value);
        if (prefix)
            peer_->allowed_ips.push_back(*prefix);
        return prefix.has_value();
    }

    bool set_status(std::string_view value) {
        int status = 0;
        if (!read_number(value, status) || status == INT_MIN)
            return false;
        // wireguard-go reports negative numbers.
        status_ = status < 0 ? -status : status;
        return true;
    }

    WireGuardDevice& device_;
    std::size_t peers_ = 0;
    // Valid until the next begin_peer(), which may move the peers.
    WireGuardPeer* peer_ = nullptr;
    std::int64_t seconds_ = 0;
    std::int64_t nanoseconds_ = 0;
    std::optional<int> status_;
};

}  // namespace

Result<void> parse_uapi(std::string_view answer, WireGuardDevice& device) {
    return UapiParser(device).parse(answer);
}

}  // namespace pangolin
