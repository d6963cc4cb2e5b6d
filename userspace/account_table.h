// Accounts by their labels, for as long as somebody has a use for them.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

namespace pangolin {

// What is published of something that is gone stays for so long, and until it was collected once more: a
// Prometheus looks back as far (its --query.lookback-delta), and scrapes more often.
inline constexpr std::chrono::minutes account_lifetime{5};
// When nobody collects.
inline constexpr std::chrono::hours longest_account_lifetime{1};

// When accounts are looked through.
struct AccountReview {
    std::chrono::steady_clock::time_point now;
    // When accounts were published last; none: never.
    std::optional<std::chrono::steady_clock::time_point> published;

    // Whether what was of no use from `since` on may go.
    bool is_over(std::chrono::steady_clock::time_point since) const {
        const auto age = now - since;
        const bool seen = published && *published > since;
        return (seen && age >= account_lifetime) || age >= longest_account_lifetime;
    }
};

// `Account` owns the text of its labels, which `labels_of(const Account&)` gives as the table's Labels.
// Whoever credits an account more than once holds it. Not thread-safe.
template <std::size_t label_count, class Account>
class AccountTable {
  public:
    using Labels = std::array<std::string_view, label_count>;

    // `make()` makes what is not there yet, as a std::shared_ptr<Account> with these labels.
    template <class Make>
    const std::shared_ptr<Account>& of(const Labels& labels, Make make) {
        auto found = entries_.find(labels);
        if (found == entries_.end()) {
            std::shared_ptr<Account> made = make();
            const Labels own = labels_of(*made);
            found = entries_.emplace(own, Entry{std::move(made), std::nullopt}).first;
        }
        found->second.unused_since.reset();
        return found->second.account;
    }

    // Calls `visit(Account&)` in the order of the labels.
    template <class Visit>
    void for_each(Visit visit) const {
        for (const auto& [labels, entry] : entries_)
            visit(*entry.account);
    }
    std::size_t size() const { return entries_.size(); }

    // Forgets accounts that nobody holds and that `is_live(labels)` says no to, for a lifetime now.
    template <class IsLive>
    void forget_unused(const AccountReview& review, IsLive is_live) {
        for (auto each = entries_.begin(); each != entries_.end();) {
            auto& [account, unused_since] = each->second;
            if (account.use_count() > 1 || is_live(each->first))
                unused_since.reset();
            else if (!unused_since)
                unused_since = review.now;
            each = unused_since && review.is_over(*unused_since) ? entries_.erase(each) : std::next(each);
        }
    }

  private:
    struct Entry {
        std::shared_ptr<Account> account;
        // By the review that found it so.
        std::optional<std::chrono::steady_clock::time_point> unused_since;
    };
    // Keys point into the accounts.
    std::map<Labels, Entry> entries_;
};

}  // namespace pangolin
