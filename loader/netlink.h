// Netlink: a socket that asks and collects answers, and attributes read without trust in their lengths.
#pragma once

#include <libmnl/libmnl.h>
#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "loader/base/error.h"

namespace pangolin {

class NetlinkAttributes;

// One attribute of a received message; refers to the message's bytes.
struct NetlinkAttribute {
    std::uint16_t type = 0;
    std::span<const std::byte> payload;

    // The payload as a number or structure; none when it is shorter. Longer ones are read from their
    // beginning, because the kernel may append to a structure.
    template <class T>
    std::optional<T> as() const {
        static_assert(std::is_trivially_copyable_v<T>);
        if (payload.size() < sizeof(T))
            return std::nullopt;
        T value;
        std::memcpy(&value, payload.data(), sizeof value);
        return value;
    }
    // The payload as text, up to its first zero byte.
    std::string_view text() const;
    // The payload as attributes of its own.
    NetlinkAttributes nested() const;
};

// The attributes in a piece of a message, for a range-based for. Ends before the first one whose length is
// wrong.
class NetlinkAttributes {
  public:
    class Iterator {
      public:
        explicit Iterator(std::span<const std::byte> rest) : rest_(rest) { read(); }
        const NetlinkAttribute& operator*() const { return attribute_; }
        Iterator& operator++();
        bool operator!=(std::nullptr_t) const { return length_ != 0; }

      private:
        void read();
        std::span<const std::byte> rest_;
        // Of the attribute with its header; 0 at the end.
        std::size_t length_ = 0;
        NetlinkAttribute attribute_;
    };

    explicit NetlinkAttributes(std::span<const std::byte> bytes) : bytes_(bytes) {}
    // The attributes of a message behind its family's header of `header_size` bytes. The message itself must
    // be whole.
    NetlinkAttributes(const nlmsghdr& message, std::size_t header_size);

    Iterator begin() const { return Iterator(bytes_); }
    std::nullptr_t end() const { return nullptr; }

  private:
    std::span<const std::byte> bytes_;
};

// Whether a message of a receive buffer is there in full, of which `rest` bytes are left. mnl_nlmsg_ok()
// alone takes lengths beyond 2^31 for negative ones.
inline bool is_whole(const nlmsghdr* message, int rest) {
    return mnl_nlmsg_ok(message, rest) && message->nlmsg_len <= static_cast<unsigned>(rest);
}

// A socket in the network namespace of the thread that opens it, for life.
class NetlinkSocket {
  public:
    using OnMessage = std::function<Result<void>(const nlmsghdr&)>;

    // `bus` is NETLINK_ROUTE, NETLINK_GENERIC or NETLINK_SOCK_DIAG.
    static Result<NetlinkSocket> open(int bus);

    // Sends `request` (its flags say whether it asks for a dump) and hands over each message of the answer.
    // The error's code is the kernel's, or EINTR when what was listed changed meanwhile: ask again. After an
    // error of `on_message`, which is passed on, the rest of the answer is read and dropped.
    Result<void> exchange(nlmsghdr* request, const OnMessage& on_message);

    // The kernel's unique number of the namespace (SO_NETNS_COOKIE, Linux 5.14); 0 where there is none.
    std::uint64_t netns_cookie() const;

  private:
    struct Close {
        void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
    };
    explicit NetlinkSocket(mnl_socket* socket) : socket_(socket) {}
    Result<bool> receive(std::uint32_t sequence, const OnMessage& on_message, Result<void>& outcome);

    std::unique_ptr<mnl_socket, Close> socket_;
    std::vector<std::byte> buffer_;
    std::uint32_t sequence_ = 0;
};

inline NetlinkAttributes NetlinkAttribute::nested() const {
    return NetlinkAttributes(payload);
}

inline void NetlinkAttributes::Iterator::read() {
    nlattr header{};
    length_ = 0;
    if (rest_.size() < sizeof header)
        return;
    std::memcpy(&header, rest_.data(), sizeof header);
    if (header.nla_len < sizeof header || header.nla_len > rest_.size())
        return;
    length_ = header.nla_len;
    attribute_ = {static_cast<std::uint16_t>(header.nla_type & NLA_TYPE_MASK),
                  rest_.subspan(sizeof header, length_ - sizeof header)};
}

inline NetlinkAttributes::Iterator& NetlinkAttributes::Iterator::operator++() {
    const std::size_t padded = NLA_ALIGN(length_);
    rest_ = rest_.subspan(padded < rest_.size() ? padded : rest_.size());
    read();
    return *this;
}

}  // namespace pangolin
