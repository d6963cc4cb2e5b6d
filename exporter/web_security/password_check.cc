#include "exporter/web_security/password_check.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cctype>
#include <stdexcept>
#include <utility>
#include <vector>

namespace pangolin {
namespace {

namespace asio = boost::asio;

// At 70 ms each the last one waits two seconds.
constexpr std::size_t most_waiting = 32;
// Of each kind; then all are forgotten.
constexpr std::size_t most_remembered = 128;

// None: not base64.
std::optional<std::string> decode_base64(std::string_view text) {
    if (text.empty() || text.size() % 4 != 0)
        return std::nullopt;
    std::vector<unsigned char> bytes(text.size() / 4 * 3);
    const int size = EVP_DecodeBlock(bytes.data(), reinterpret_cast<const unsigned char*>(text.data()),
                                     static_cast<int>(text.size()));
    if (size < 0)
        return std::nullopt;
    const std::size_t padding = text.ends_with("==") ? 2 : (text.ends_with('=') ? 1 : 0);
    return std::string(bytes.begin(), bytes.begin() + size - static_cast<std::ptrdiff_t>(padding));
}

bool matches(const std::string& password, const std::string& hash) {
    // 32 KB, and it holds the password afterwards.
    const auto data = std::make_unique<crypt_data>();
    const char* const made = crypt_r(password.c_str(), hash.c_str(), data.get());
    const bool same = made != nullptr && hash.size() == std::string_view(made).size() &&
                      CRYPTO_memcmp(made, hash.data(), hash.size()) == 0;
    OPENSSL_cleanse(data.get(), sizeof *data);
    return same;
}

asio::awaitable<bool> compare(std::string password, std::string hash) {
    co_return matches(password, hash);
}

class Waiting {
  public:
    explicit Waiting(std::size_t& count) : count_(count) { ++count_; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    ~Waiting() { --count_; }

  private:
    std::size_t& count_;
};

}  // namespace

std::optional<Credentials> parse_basic_authorization(std::string_view header) {
    constexpr std::string_view scheme = "basic ";
    if (header.size() < scheme.size() ||
        !std::ranges::equal(header.substr(0, scheme.size()), scheme,
                            [](unsigned char a, char b) { return std::tolower(a) == b; }))
        return std::nullopt;
    header.remove_prefix(scheme.size());
    const auto text = decode_base64(header.substr(std::min(header.find_first_not_of(' '), header.size())));
    // crypt_r() would stop at a NUL, and take what begins like the password for it.
    if (!text || text->find('\0') != std::string::npos)
        return std::nullopt;
    const std::size_t colon = text->find(':');
    if (colon == std::string::npos)
        return std::nullopt;
    return Credentials{.user = text->substr(0, colon), .password = text->substr(colon + 1)};
}

PasswordCheck::PasswordCheck() {
    if (RAND_bytes(key_.data(), static_cast<int>(key_.size())) != 1)
        throw std::runtime_error("OpenSSL has no random numbers");
}

PasswordCheck::Digest PasswordCheck::digest(const Credentials& credentials, const std::string& hash) const {
    // The hash has a fixed length and the name no colon: no two triples have the same text.
    const std::string text = hash + credentials.user + ":" + credentials.password;
    Digest result{};
    HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), result.data(), nullptr);
    return result;
}

void PasswordCheck::remember(std::set<Digest>& digests, const Digest& digest) {
    if (digests.size() >= most_remembered)
        digests.clear();
    digests.insert(digest);
}

asio::awaitable<PasswordVerdict> PasswordCheck::check(std::shared_ptr<const Users> users,
                                                      Credentials credentials) {
    const auto found = users->find(credentials.user);
    const bool known = found != users->end();
    const std::string hash = known ? found->second : users->begin()->second;
    const Digest mine = digest(credentials, hash);
    if (known && right_.contains(mine))
        co_return PasswordVerdict::right;
    if (wrong_.contains(mine))
        co_return PasswordVerdict::wrong;
    if (waiting_ >= most_waiting)
        co_return PasswordVerdict::busy;
    const Waiting waiting(waiting_);
    // No lambda with captures within the expression: g++ 12 destroys them twice.
    asio::awaitable<bool> comparison = compare(std::move(credentials.password), hash);
    const bool same = co_await asio::co_spawn(worker_, std::move(comparison), asio::use_awaitable);
    const bool right = known && same;
    remember(right ? right_ : wrong_, mine);
    co_return right ? PasswordVerdict::right : PasswordVerdict::wrong;
}

void PasswordCheck::stop() {
    worker_.stop();
    worker_.join();
}

}  // namespace pangolin
