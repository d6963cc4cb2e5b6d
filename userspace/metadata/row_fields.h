// Fields of rows that others wrote: what makes no sense is left out, with a line that names it.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "loader/base/ip_prefix.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

// What is wrong with one reading. A problem is logged when it appears, not each time it is seen. Not
// thread-safe.
class RowProblems {
  public:
    void begin() { problems_.clear(); }
    void add(std::string problem) { problems_.insert(std::move(problem)); }
    // Logs what the last reading did not have; of very many the first ones and their number.
    void log();
    const std::set<std::string>& all() const { return problems_; }

  private:
    std::set<std::string> problems_;
    std::set<std::string> known_;
};

// One row's fields. Each reader gives nothing for NULL, and for what it reports.
class RowFields {
  public:
    // `kind` as in "site"; `nice_id` says which one to a reader of the log.
    RowFields(std::string_view kind, std::int64_t id, const std::optional<std::string>& nice_id,
              RowProblems& problems)
        : kind_(kind), id_(id), nice_id_(nice_id), problems_(problems) {}

    using Text = std::optional<std::string>;
    using Integer = std::optional<std::int64_t>;

    // UTF-8; other bytes are replaced.
    std::string text(std::string_view column, const Text& value) const;
    // Empty is none.
    std::optional<WireGuardKey> key(std::string_view column, const Text& value) const;
    // "100.89.128.4/30". Empty is none, and so is 0.0.0.0/32: Pangolin fills columns with it that may not be
    // NULL.
    std::optional<IpPrefix> network(std::string_view column, const Text& value) const;
    // 1 to 65535; 0 is none.
    std::optional<std::uint16_t> port(std::string_view column, const Integer& value) const;
    std::optional<bool> boolean(std::string_view column, const Integer& value) const;

    void report(std::string_view what) const;

  private:
    std::string_view kind_;
    std::int64_t id_;
    const std::optional<std::string>& nice_id_;
    RowProblems& problems_;
};

}  // namespace pangolin
