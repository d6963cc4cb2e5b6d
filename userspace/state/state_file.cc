#include "userspace/state/state_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <string_view>
#include <system_error>

namespace pangolin {
namespace {

constexpr std::array<char, 24> magic{"pangolin_exporter state"};
// Of what all blocks mean. An older program does not read a newer one's.
constexpr std::uint32_t format_version = 1;

constexpr const char* on_disk_name = "state";
constexpr const char* recent_name = "state.recent";
// Of 200,000 series with all their histograms it would be a few hundred megabytes.
constexpr std::uintmax_t greatest_file = 1ULL << 30;

struct Header {
    std::array<char, 24> magic{};
    std::uint32_t version = 0;
    std::uint32_t reserved = 0;
    std::array<std::uint8_t, 16> instance{};
    std::uint64_t sequence = 0;
    std::uint64_t length = 0;
};
static_assert(sizeof(Header) == 64);

constexpr std::size_t digest_length = 32;
using Digest = std::array<std::uint8_t, digest_length>;

Digest digest_of(const Header& header, std::span<const std::uint8_t> payload) {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    Digest digest{};
    if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1 ||
        EVP_DigestUpdate(context.get(), &header, sizeof header) != 1 ||
        EVP_DigestUpdate(context.get(), payload.data(), payload.size()) != 1 ||
        EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1)
        throw std::bad_alloc();
    return digest;
}

Result<void> write_all(int fd, std::span<const std::uint8_t> bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return system_failure(
                written == 0 ? ENOSPC : errno, "cannot write " + path,
                "Free disk space, or set metrics.state_dir to a folder that can be written.");
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return {};
}

template <class T>
std::span<const std::uint8_t> bytes_of(const T& value) {
    return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

}  // namespace

Result<StateFile> StateFile::open(const std::string& folder) {
    const std::string hint = "Give the exporter the right to write there, or set metrics.state_dir.";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error)
        return system_failure(error.value(), "cannot make the folder " + folder, hint);
    StateFile file;
    file.folder_ = folder;
    file.lock_ = UniqueFd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!file.lock_)
        return system_failure(errno, "cannot open " + folder, hint);
    if (::flock(file.lock_.get(), LOCK_EX | LOCK_NB) != 0)
        return failure("another exporter keeps its totals in " + folder,
                       "Stop it, or give this one a pin_dir and a state_dir of its own.", errno);
    if (::faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
        return system_failure(errno, "cannot write to " + folder, hint);
    return file;
}

Result<StateContent> StateFile::parse(std::span<const std::uint8_t> file) {
    Header header;
    Digest digest{};
    if (file.size() < sizeof header + digest.size())
        return failure("it is too short");
    std::memcpy(&header, file.data(), sizeof header);
    if (header.magic != magic)
        return failure("it is no state file");
    if (header.version != format_version)
        return failure("its format is version " + std::to_string(header.version) + ", not " +
                       std::to_string(format_version));
    if (header.length != file.size() - sizeof header - digest.size())
        return failure("its length is not what it says");
    const auto payload = file.subspan(sizeof header, static_cast<std::size_t>(header.length));
    std::memcpy(digest.data(), file.data() + sizeof header + payload.size(), digest.size());
    if (digest != digest_of(header, payload))
        return failure("its checksum is wrong");
    return StateContent{.instance = header.instance,
                        .sequence = header.sequence,
                        .payload = {payload.begin(), payload.end()}};
}

std::optional<StateContent> StateFile::read(const std::string& name) {
    const std::string path = folder_ + "/" + name;
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) {
        if (errno != ENOENT)
            spdlog::warn("{}", system_failure(errno, "cannot read " + path).error().message());
        return {};
    }
    Result<StateContent> content = failure("it is no ordinary file, or too large");
    struct stat status{};
    if (::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode) &&
        static_cast<std::uintmax_t>(status.st_size) <= greatest_file) {
        std::vector<std::uint8_t> bytes(static_cast<std::size_t>(status.st_size));
        std::size_t got = 0;
        for (ssize_t part = 0; got < bytes.size(); got += static_cast<std::size_t>(part)) {
            part = ::read(file.get(), bytes.data() + got, bytes.size() - got);
            if (part <= 0)
                break;
        }
        bytes.resize(got);
        content = parse(bytes);
    }
    if (content)
        return std::move(*content);
    const std::string aside = path + ".bad";
    const bool moved = std::rename(path.c_str(), aside.c_str()) == 0;
    spdlog::warn(
        "{}",
        Error{"the totals in " + path + " cannot be used: " + content.error().what,
              moved ? "It is " + aside + " now; remove it when you have looked at it." : "Remove it.", 0}
            .message());
    return {};
}

std::optional<StateContent> StateFile::read() {
    auto on_disk = read(on_disk_name);
    auto recent = read(recent_name);
    if (!on_disk || (recent && recent->instance == on_disk->instance && recent->sequence > on_disk->sequence))
        return recent;
    return on_disk;
}

Result<void> StateFile::write(const std::array<std::uint8_t, 16>& instance, std::uint64_t sequence,
                              std::span<const std::uint8_t> payload, bool on_disk) {
    const Header header{.magic = magic,
                        .version = format_version,
                        .instance = instance,
                        .sequence = sequence,
                        .length = payload.size()};
    const Digest digest = digest_of(header, payload);
    const std::string path = folder_ + "/" + (on_disk ? on_disk_name : recent_name);
    const std::string beside = path + ".new";
    {
        const UniqueFd file(
            ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!file)
            return system_failure(
                errno, "cannot write " + beside,
                "Free disk space, or set metrics.state_dir to a folder that can be written.");
        for (const auto bytes : {bytes_of(header), payload, std::span<const std::uint8_t>(digest)}) {
            if (auto written = write_all(file.get(), bytes, beside); !written)
                return written;
        }
        if (on_disk && ::fsync(file.get()) != 0)
            return system_failure(errno, "cannot write " + beside);
    }
    if (std::rename(beside.c_str(), path.c_str()) != 0)
        return system_failure(errno, "cannot replace " + path);
    if (on_disk && ::fsync(lock_.get()) != 0)
        return system_failure(errno, "cannot write " + folder_);
    return {};
}

}  // namespace pangolin
