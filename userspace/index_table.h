// Dense indexes for things that come and go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace pangolin {

// Indexes of kernel counters are handed out from `first`; a released one is used again. A thing keeps its
// index until it has been retired, so that what comes late is still counted for it. Not thread-safe.
template <class Key, class Entry, class Hash = std::hash<Key>>
class IndexTable {
  public:
    struct Element {
        std::uint32_t index = 0;
        Entry entry{};

      private:
        friend class IndexTable;
        std::uint64_t listing = 0;
    };

    IndexTable(std::uint32_t first, std::uint32_t max_elements) : next_(first), max_elements_(max_elements) {}

    // Puts a thing where it was in another process; all of them before the first listing.
    Element& restore(const Key& key, std::uint32_t index) {
        for (; next_ < index; ++next_)
            free_.push_back(next_);
        if (index == next_)
            ++next_;
        std::erase(free_, index);
        Element& element = elements_[key];
        element.index = index;
        return element;
    }

    // A listing of what there is now: begin(), see() for each, end(), which returns whether the listing
    // differs from the one before.
    void begin_listing() {
        ++listing_;
        changed_ = false;
        seen_before_ = seen_;
        seen_ = 0;
        refused_before_ = refused_now_;
        refused_now_ = 0;
    }
    // Null for what is new and beyond the greatest number of elements. A key is to be seen once.
    Element* see(const Key& key) {
        auto found = elements_.find(key);
        if (found == elements_.end()) {
            if (elements_.size() >= max_elements_) {
                ++refused_now_;
                return nullptr;
            }
            found = elements_.try_emplace(key).first;
            found->second.index = free_index();
        }
        changed_ |= found->second.listing + 1 != listing_;
        found->second.listing = listing_;
        ++seen_;
        return &found->second;
    }
    bool end_listing() {
        if (refused_now_ > refused_before_)
            refused_ += refused_now_ - refused_before_;
        return changed_ || seen_ != seen_before_;
    }

    // Calls `visit(const Key&, Element&)`, also for what the last listing lacks.
    template <class Visit>
    void for_each(Visit visit) {
        for (auto& [key, element] : elements_)
            visit(key, element);
    }
    template <class Visit>
    void for_each(Visit visit) const {
        for (const auto& [key, element] : elements_)
            visit(key, element);
    }
    // Calls `visit(const Key&, const Element&)` for what is in the last listing.
    template <class Visit>
    void for_each_listed(Visit visit) const {
        for (const auto& [key, element] : elements_)
            if (element.listing == listing_)
                visit(key, element);
    }
    // Calls `visit(const Key&, Element&)` for each that the last listing lacks, and forgets it.
    template <class Visit>
    void retire_unlisted(Visit visit) {
        if (seen_ == elements_.size())
            return;
        for (auto at = elements_.begin(); at != elements_.end();) {
            if (at->second.listing == listing_) {
                ++at;
                continue;
            }
            visit(at->first, at->second);
            free_.push_back(at->second.index);
            at = elements_.erase(at);
        }
    }

    std::size_t size() const { return elements_.size(); }
    // One more than the highest index that was ever in use.
    std::uint32_t indexes_needed() const { return next_; }
    // What found no index, counted each time that one more did not.
    std::uint64_t refused() const { return refused_; }
    // Of the last listing.
    std::size_t refused_now() const { return refused_now_; }

  private:
    std::uint32_t free_index() {
        if (free_.empty())
            return next_++;
        const std::uint32_t index = free_.back();
        free_.pop_back();
        return index;
    }

    std::unordered_map<Key, Element, Hash> elements_;
    std::vector<std::uint32_t> free_;
    std::uint32_t next_;
    std::uint32_t max_elements_;
    std::uint64_t listing_ = 0;
    bool changed_ = false;
    std::size_t seen_ = 0;
    std::size_t seen_before_ = 0;
    std::size_t refused_now_ = 0;
    std::size_t refused_before_ = 0;
    std::uint64_t refused_ = 0;
};

}  // namespace pangolin
