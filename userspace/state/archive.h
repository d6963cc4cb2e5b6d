// Values as bytes and back. Each type describes its fields once, for both ways:
//
//     template <class Archive> void fields(Archive& archive, PeerState& peer) { archive(peer.key, peer.slot);
//     }
//
// Numbers are as this machine writes them: the bytes are read on the machine that wrote them.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace pangolin {

// Numbers, enums, flags, and structs of nothing else without padding (bpf/shared has many).
template <class T>
concept PlainValue = std::is_trivially_copyable_v<T> && (std::is_arithmetic_v<T> || std::is_enum_v<T> ||
                                                         std::has_unique_object_representations_v<T>);

class ArchiveWriter {
  public:
    template <class... Values>
    void operator()(const Values&... values) {
        (write(values), ...);
    }
    // What `content` writes, with its length before it: a reader passes over what it does not know.
    template <class Content>
    void block(std::uint32_t kind, Content content) {
        write(kind);
        const std::size_t length_at = bytes_.size();
        write(std::uint64_t{0});
        content(*this);
        const std::uint64_t length = bytes_.size() - length_at - sizeof(std::uint64_t);
        std::memcpy(bytes_.data() + length_at, &length, sizeof length);
    }
    void append(std::span<const std::uint8_t> bytes) {
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    }
    std::span<const std::uint8_t> bytes() const { return bytes_; }

  private:
    template <PlainValue T>
    void write(const T& value) {
        const auto* const begin = reinterpret_cast<const std::uint8_t*>(&value);
        bytes_.insert(bytes_.end(), begin, begin + sizeof value);
    }
    void write(const std::string& text) {
        write(std::uint64_t{text.size()});
        bytes_.insert(bytes_.end(), text.begin(), text.end());
    }
    template <class T, std::size_t Size>
        requires(!PlainValue<T>)
    void write(const std::array<T, Size>& values) {
        for (const T& value : values)
            write(value);
    }
    template <class T>
    void write(const std::vector<T>& values) {
        write(std::uint64_t{values.size()});
        for (const T& value : values)
            write(value);
    }
    template <class Key, class T, class Compare>
    void write(const std::map<Key, T, Compare>& values) {
        write(std::uint64_t{values.size()});
        for (const auto& [key, value] : values)
            (*this)(key, value);
    }
    template <class First, class Second>
        requires(!PlainValue<std::pair<First, Second>>)
    void write(const std::pair<First, Second>& pair) {
        (*this)(pair.first, pair.second);
    }
    template <class T>
    void write(const std::optional<T>& value) {
        write(static_cast<std::uint8_t>(value.has_value()));
        if (value)
            write(*value);
    }
    template <class T>
        requires(!PlainValue<T>)
    void write(const T& value) {
        // Fields are described by one function that may change them; writing does not.
        fields(*this, const_cast<T&>(value));
    }

    std::vector<std::uint8_t> bytes_;
};

// Of bytes that may be anything: what is not there leaves its value as it was, and ok() says so. Memory is
// bounded by a small multiple of the bytes.
class ArchiveReader {
  public:
    explicit ArchiveReader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

    template <class... Values>
    void operator()(Values&... values) {
        (read(values), ...);
    }
    bool ok() const { return ok_; }
    bool at_end() const { return bytes_.empty(); }
    std::span<const std::uint8_t> rest() const { return bytes_; }

    // Calls `visit(kind, ArchiveReader&)` for each of the blocks that the rest consists of. False when it
    // does not, or when a visit left its reader not ok().
    template <class Visit>
    bool blocks(Visit visit) {
        while (ok_ && !at_end()) {
            std::uint32_t kind = 0;
            std::uint64_t length = 0;
            (*this)(kind, length);
            if (!ok_ || length > bytes_.size())
                return ok_ = false;
            ArchiveReader content(bytes_.first(static_cast<std::size_t>(length)));
            bytes_ = bytes_.subspan(static_cast<std::size_t>(length));
            visit(kind, content);
            ok_ = ok_ && content.ok();
        }
        return ok_;
    }

  private:
    template <PlainValue T>
    void read(T& value) {
        if (bytes_.size() < sizeof value) {
            ok_ = false;
            return;
        }
        if constexpr (std::same_as<T, bool>)
            value = bytes_[0] != 0;
        else
            std::memcpy(&value, bytes_.data(), sizeof value);
        bytes_ = bytes_.subspan(sizeof value);
    }
    // How many elements follow, each of at least one byte.
    std::size_t count() {
        std::uint64_t count = 0;
        read(count);
        if (count > bytes_.size())
            ok_ = false;
        return ok_ ? static_cast<std::size_t>(count) : 0;
    }
    void read(std::string& text) {
        const std::size_t size = count();
        text.assign(reinterpret_cast<const char*>(bytes_.data()), size);
        bytes_ = bytes_.subspan(size);
    }
    template <class T, std::size_t Size>
        requires(!PlainValue<T>)
    void read(std::array<T, Size>& values) {
        for (T& value : values)
            read(value);
    }
    template <class T>
    void read(std::vector<T>& values) {
        values.clear();
        for (std::size_t left = count(); left > 0 && ok_; --left)
            read(values.emplace_back());
    }
    template <class Key, class T, class Compare>
    void read(std::map<Key, T, Compare>& values) {
        values.clear();
        for (std::size_t left = count(); left > 0 && ok_; --left) {
            Key key{};
            T value{};
            (*this)(key, value);
            values.insert_or_assign(std::move(key), std::move(value));
        }
    }
    template <class First, class Second>
        requires(!PlainValue<std::pair<First, Second>>)
    void read(std::pair<First, Second>& pair) {
        (*this)(pair.first, pair.second);
    }
    template <class T>
    void read(std::optional<T>& value) {
        std::uint8_t present = 0;
        read(present);
        value.reset();
        if (present != 0 && ok_)
            read(value.emplace());
    }
    template <class T>
        requires(!PlainValue<T>)
    void read(T& value) {
        fields(*this, value);
    }

    std::span<const std::uint8_t> bytes_;
    bool ok_ = true;
};

}  // namespace pangolin
