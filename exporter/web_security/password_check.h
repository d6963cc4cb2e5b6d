// Names and passwords of HTTP's basic authentication (RFC 7617) against bcrypt hashes.
#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace pangolin {

struct Credentials {
    std::string user;
    std::string password;
};

// Of a header Authorization; none when it is not basic authentication as it should be.
std::optional<Credentials> parse_basic_authorization(std::string_view header);

enum class PasswordVerdict : std::uint8_t {
    right,
    wrong,
    // Too many others wait for theirs.
    busy,
};

// A comparison takes tens of milliseconds on purpose, so it is made on a thread of this object's own, and
// what was right once is remembered as a keyed hash. For one thread.
class PasswordCheck {
  public:
    using Users = std::map<std::string, std::string>;

    PasswordCheck();
    PasswordCheck(const PasswordCheck&) = delete;
    PasswordCheck& operator=(const PasswordCheck&) = delete;
    ~PasswordCheck() { stop(); }

    // `users`: bcrypt hashes by name. An unknown user takes as long as a known one.
    boost::asio::awaitable<PasswordVerdict> check(std::shared_ptr<const Users> users,
                                                  Credentials credentials);

    // Waits for a comparison that is running; those that wait are given up.
    void stop();

  private:
    using Digest = std::array<unsigned char, 32>;

    // Of name, hash and password: another hash for the name is another digest.
    Digest digest(const Credentials& credentials, const std::string& hash) const;
    void remember(std::set<Digest>& digests, const Digest& digest);

    std::array<unsigned char, 32> key_{};
    std::set<Digest> right_;
    std::set<Digest> wrong_;
    std::size_t waiting_ = 0;
    boost::asio::thread_pool worker_{1};
};

}  // namespace pangolin
