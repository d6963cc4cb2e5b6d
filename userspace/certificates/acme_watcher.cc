#include "userspace/certificates/acme_watcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <memory>
#include <span>
#include <utility>

#include "loader/base/unique_fd.h"
#include "userspace/certificates/acme_file.h"

namespace pangolin {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Where nothing is heard.
constexpr milliseconds look_interval{10'000};
// While the file is empty, half written or absent, and for how long that is taken for a moment of a change.
constexpr milliseconds retry_interval{100};
constexpr milliseconds settling_time{2'000};
// What comes at once belongs together.
constexpr milliseconds quiet_time{20};
// Two contents may have one time of modification within a tick of the kernel's clock (10 ms at 100 Hz).
constexpr std::chrono::nanoseconds clock_tick = milliseconds(20);

const char* const missing_hint =
    "Traefik makes it with its first certificate; set metrics.traefik.acme to the file that its "
    "certificatesResolvers store to.";

std::string hint_for(int code) {
    if (code == ENOENT || code == ENOTDIR)
        return missing_hint;
    if (code == EACCES || code == EPERM)
        return "Run as root or let this user read it; Traefik keeps it for its own user alone.";
    return "Check the path and the disk.";
}

bool just_now(std::chrono::nanoseconds modified) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return now - modified < clock_tick && modified - now < clock_tick;
}

}  // namespace

// A content of the file, wiped when it is done with: there are private keys in it.
class AcmeWatcher::Content {
  public:
    explicit Content(std::size_t size) : bytes_(std::make_unique<char[]>(size)), size_(size) {}
    Content(Content&& other) noexcept
        : bytes_(std::move(other.bytes_)), size_(std::exchange(other.size_, 0)) {}
    Content& operator=(Content&&) = delete;
    Content(const Content&) = delete;
    Content& operator=(const Content&) = delete;
    ~Content() {
        if (bytes_)
            OPENSSL_cleanse(bytes_.get(), size_);
    }
    std::span<char> bytes() { return {bytes_.get(), size_}; }

    struct Read;
    static Result<Read> read(const std::string& path);

  private:
    // Of exactly this size, so that no copy is left behind by growing.
    std::unique_ptr<char[]> bytes_;
    std::size_t size_;
};

struct AcmeWatcher::Content::Read {
    FileSignature signature;
    Content content;
};

Result<AcmeWatcher::Content::Read> AcmeWatcher::Content::read(const std::string& path) {
    // A FIFO in its place must not hold the thread.
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat status{};
    if (!file || ::fstat(file.get(), &status) != 0)
        return system_failure(errno, "cannot read " + path, hint_for(errno));
    if (!S_ISREG(status.st_mode))
        return failure(fmt::format("cannot read {}: it is not a regular file", path), missing_hint);
    if (static_cast<std::size_t>(status.st_size) > largest_acme_file)
        return failure(fmt::format("cannot read {}: it has more than {} MiB", path, largest_acme_file >> 20),
                       "Check metrics.traefik.acme.", EFBIG);
    Read read{FileSignature::of(status), Content(static_cast<std::size_t>(status.st_size))};
    const std::span<char> bytes = read.content.bytes();
    for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t count = ::read(file.get(), bytes.data() + done, bytes.size() - done);
        if (count < 0)
            return system_failure(errno, "cannot read " + path, hint_for(errno));
        if (count == 0)
            return failure(fmt::format("cannot read {}: it was cut short meanwhile", path));
        done += static_cast<std::size_t>(count);
    }
    return read;
}

AcmeWatcher::AcmeWatcher(std::string path, CertificateLedger& ledger)
    : path_(std::move(path)), ledger_(ledger), folder_(path_) {}

AcmeWatcher::~AcmeWatcher() {
    thread_.request_stop();
    folder_.wake();
}

void AcmeWatcher::start() {
    const milliseconds next = look();
    thread_ = std::jthread([this, next](const std::stop_token& stop) {
        folder_.wait(next, quiet_time);
        run(stop);
    });
}

void AcmeWatcher::run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        milliseconds next = look_interval;
        try {
            next = look();
        } catch (const std::exception& exception) {
            spdlog::error("unexpected: {}", exception.what());
        }
        folder_.wait(next, quiet_time);
    }
}

milliseconds AcmeWatcher::look() {
    is_watching_ = folder_.renew();
    struct stat status{};
    if (::stat(path_.c_str(), &status) != 0) {
        const int code = errno;
        return unsettled(system_failure(code, "cannot read " + path_, hint_for(code)).error(), std::nullopt);
    }
    if (judged_ == FileSignature::of(status))
        return look_interval;
    auto read = Content::read(path_);
    if (!read)
        return unsettled(read.error(), FileSignature::of(status));
    const FileSignature signature = read->signature;
    if (signature.size == 0) {
        // Traefik's first deed is to make it empty; so it is when a writer has just opened it.
        if (!unsettled_since_)
            unsettled_since_ = Clock::now();
        if (Clock::now() - *unsettled_since_ < settling_time)
            return retry_interval;
        accept({}, {});
    } else {
        auto file = parse_acme_file(read->content.bytes());
        if (!file) {
            Error error = file.error();
            error.what = path_ + " " + error.what;
            return unsettled(error, signature);
        }
        accept(std::move(file->certificates), file->problems);
    }
    unsettled_since_.reset();
    if (just_now(signature.modified))
        return retry_interval;
    judged_ = signature;
    return look_interval;
}

milliseconds AcmeWatcher::unsettled(const Error& error, const std::optional<FileSignature>& signature) {
    const auto now = Clock::now();
    if (!unsettled_since_)
        unsettled_since_ = now;
    if (has_word_ && now - *unsettled_since_ < settling_time)
        return retry_interval;
    ledger_.lose_file(error.code == ENOENT && is_watching_);
    has_word_ = false;
    judged_ = signature;
    const std::lock_guard lock(state_mutex_);
    state_.failed(error);
    // What was never good may be on its way as well.
    return now - *unsettled_since_ < settling_time ? retry_interval : look_interval;
}

void AcmeWatcher::accept(std::vector<Certificate> certificates, const std::vector<std::string>& problems) {
    ledger_.set_file(std::move(certificates));
    has_word_ = true;
    if (problems != problems_ && !problems.empty())
        spdlog::warn("{}: {}{}", path_, problems.front(),
                     problems.size() > 1
                         ? fmt::format(", and {} more entries are unusable", problems.size() - 1)
                         : "");
    problems_ = problems;
    const std::lock_guard lock(state_mutex_);
    state_.succeeded();
}

SourceStatus AcmeWatcher::status() const {
    const std::lock_guard lock(state_mutex_);
    return state_.status();
}

Result<std::size_t> AcmeWatcher::inspect(const std::string& path) {
    auto read = Content::read(path);
    if (!read)
        return std::unexpected(read.error());
    if (read->signature.size == 0)
        return 0;
    const auto file = parse_acme_file(read->content.bytes());
    if (!file)
        return failure(path + " " + file.error().what, file.error().hint);
    return file->certificates.size();
}

}  // namespace pangolin
