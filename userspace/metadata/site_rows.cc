#include "userspace/metadata/site_rows.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "userspace/metadata/text.h"
#include "userspace/utf8.h"

namespace pangolin {
namespace {

std::optional<SiteType> site_type(std::string_view text) {
    for (const SiteType type : {SiteType::newt, SiteType::wireguard, SiteType::local})
        if (text == to_string(type))
            return type;
    return std::nullopt;
}

// Pangolin fills a column that may not be NULL with 0.0.0.0/32 for sites that have no tunnel.
bool is_placeholder(const IpPrefix& prefix) {
    const std::uint64_t host = prefix.network.family == IpFamily::v4
                                   ? prefix.network.v4_value()
                                   : prefix.network.high | prefix.network.low;
    return host == 0 && prefix.length == max_prefix_length(prefix.network.family);
}

// Replaces each label that is in `shared`, after adding those that are there twice.
template <class MakeLabel>
void replace_shared(std::vector<std::string>& labels, std::set<std::string>& shared, MakeLabel make_label) {
    std::set<std::string_view> seen;
    for (const std::string& label : labels)
        if (!seen.insert(label).second)
            shared.insert(label);
    for (std::size_t i = 0; i < labels.size(); ++i)
        if (shared.contains(labels[i]))
            labels[i] = make_label(i);
}

}  // namespace

SiteDirectory SiteRowReader::read(const std::vector<SiteRow>& rows) {
    problems_.clear();
    SiteDirectory directory;
    directory.sites.reserve(rows.size());
    std::vector<std::string> labels = unique_labels(rows);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        directory.sites.push_back(interpret(rows[i]));
        directory.sites.back().site_id = std::move(labels[i]);
    }
    std::ranges::sort(directory.sites, {}, &Site::site_id);
    for (const std::string& problem : problems_)
        if (!known_problems_.contains(problem))
            spdlog::warn("{}", problem);
    known_problems_ = problems_;
    return directory;
}

Site SiteRowReader::interpret(const SiteRow& row) {
    Site site;
    site.name = text(row, "name", row.name);
    site.organisation = text(row, "orgId", row.organisation);
    site.exit_node = text(row, "the exit node's name", row.exit_node);
    site.region = text(row, "the exit node's region", row.region);
    site.exit_node_public_key = key(row, "the exit node's publicKey", row.exit_node_public_key);
    if (row.type) {
        const auto type = site_type(*row.type);
        if (!type)
            report(row, fmt::format("unknown type {}, taken for newt", in_quotes(*row.type)));
        site.type = type.value_or(SiteType::newt);
    }
    if (row.online && *row.online != 0 && *row.online != 1)
        report(row, fmt::format("online is {}, neither 0 nor 1", *row.online));
    else if (row.online)
        site.online = *row.online == 1;
    if (site.type == SiteType::local)
        return site;
    site.public_key = key(row, "pubKey", row.public_key);
    if (row.subnet && !row.subnet->empty()) {
        const auto prefix = IpPrefix::parse(*row.subnet);
        if (!prefix)
            report(row, fmt::format("subnet {} is not a network prefix", in_quotes(*row.subnet)));
        else if (!is_placeholder(*prefix))
            site.tunnel.push_back(*prefix);
    }
    return site;
}

std::string SiteRowReader::label_of(const SiteRow& row) {
    std::string label;
    switch (label_) {
        case SiteLabel::nice_id:
            label = valid_utf8(row.nice_id.value_or(""));
            break;
        case SiteLabel::name:
            label = valid_utf8(row.name.value_or(""));
            break;
        case SiteLabel::site_id:
            return std::to_string(row.site_id);
    }
    if (!label.empty())
        return label;
    report(row, fmt::format("no {}; the site is called {}", label_ == SiteLabel::name ? "name" : "niceId",
                            row.site_id));
    return std::to_string(row.site_id);
}

std::vector<std::string> SiteRowReader::unique_labels(const std::vector<SiteRow>& rows) {
    std::vector<std::string> bare;
    bare.reserve(rows.size());
    for (const SiteRow& row : rows)
        bare.push_back(label_of(row));
    const auto with_organisation = [&](std::size_t i) {
        return fmt::format("{}/{}", valid_utf8(rows[i].organisation.value_or("")), bare[i]);
    };
    std::vector<std::string> labels = bare;
    replace_shared(labels, shared_, with_organisation);
    replace_shared(labels, shared_in_organisation_, [&](std::size_t i) {
        return fmt::format("{}#{}", with_organisation(i), rows[i].site_id);
    });
    // Still shared by names that were made up to collide.
    std::set<std::string_view> taken{unassigned_site_id};
    for (std::size_t i = 0; i < rows.size(); ++i) {
        while (taken.contains(labels[i]))
            labels[i] += fmt::format("#{}", rows[i].site_id);
        taken.insert(labels[i]);
        if (labels[i] != bare[i])
            report(rows[i], fmt::format("other sites have or had the name {}, too; this one becomes {}",
                                        in_quotes(bare[i]), in_quotes(labels[i])));
    }
    return labels;
}

std::string SiteRowReader::text(const SiteRow& row, std::string_view column,
                                const std::optional<std::string>& value) {
    if (!value)
        return {};
    if (is_utf8(*value))
        return *value;
    report(row, fmt::format("{} {} is not UTF-8", column, in_quotes(*value)));
    return valid_utf8(*value);
}

std::optional<WireGuardKey> SiteRowReader::key(const SiteRow& row, std::string_view column,
                                               const std::optional<std::string>& value) {
    if (!value || value->empty())
        return std::nullopt;
    const auto key = WireGuardKey::from_base64(*value);
    if (key)
        return *key;
    report(row, fmt::format("{} is {}", column, key.error().what));
    return std::nullopt;
}

void SiteRowReader::report(const SiteRow& row, std::string_view what) {
    problems_.insert(
        fmt::format("Pangolin's site {} ({}): {}", row.site_id, in_quotes(row.nice_id.value_or("")), what));
}

}  // namespace pangolin
