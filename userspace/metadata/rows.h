// Rows of Pangolin's tables, as any of its databases gives them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pangolin {

// In every row: none is NULL, or a column that this version of Pangolin does not have. Numbers are as they
// come, booleans 0 and 1; whether they make sense is not decided yet.

// `sites` with its `exitNodes`.
struct SiteRow {
    std::int64_t id = 0;
    std::optional<std::string> nice_id;
    std::optional<std::string> name;
    std::optional<std::string> organisation;
    std::optional<std::string> type;
    std::optional<std::string> public_key;
    std::optional<std::string> subnet;
    std::optional<std::int64_t> listen_port;
    std::optional<std::int64_t> online;
    std::optional<std::string> exit_node;
    std::optional<std::string> region;
    std::optional<std::string> exit_node_public_key;
};

// `resources`. Since 1.19.0 `mode` says what `http` and `protocol` said.
struct ResourceRow {
    std::int64_t id = 0;
    std::optional<std::string> nice_id;
    std::optional<std::string> name;
    std::optional<std::string> organisation;
    std::optional<std::string> domain;
    std::optional<std::string> mode;
    std::optional<std::int64_t> http;
    std::optional<std::string> protocol;
    std::optional<std::int64_t> ssl;
    std::optional<std::int64_t> enabled;
    std::optional<std::int64_t> proxy_port;
};

// `targets`. A target without a resource belongs to a provider of language models.
struct TargetRow {
    std::int64_t id = 0;
    std::optional<std::int64_t> resource_id;
    std::optional<std::int64_t> site_id;
    std::optional<std::string> ip;
    std::optional<std::int64_t> port;
    std::optional<std::int64_t> internal_port;
    std::optional<std::string> method;
    std::optional<std::string> path;
    std::optional<std::string> path_match;
    std::optional<std::int64_t> enabled;
};

// `targetHealthCheck`. One without a target checks something else.
struct HealthCheckRow {
    std::int64_t id = 0;
    std::optional<std::int64_t> target_id;
    std::optional<std::int64_t> enabled;
    std::optional<std::string> health;
};

// `clients` with its `exitNodes`.
struct ClientRow {
    std::int64_t id = 0;
    std::optional<std::string> nice_id;
    std::optional<std::string> name;
    std::optional<std::string> organisation;
    std::optional<std::string> public_key;
    std::optional<std::string> tunnel;
    std::optional<std::string> subnet;
    std::optional<std::string> exit_node_public_key;
};

// `newt`, by its site: `id` is the site's.
struct NewtRow {
    std::int64_t id = 0;
    std::optional<std::string> newt_id;
};

// One reading, each table in the order of its ids. The tables are read one after the other, so a row may name
// one that was deleted in between.
struct Rows {
    std::vector<SiteRow> sites;
    std::vector<ResourceRow> resources;
    std::vector<TargetRow> targets;
    std::vector<HealthCheckRow> health_checks;
    std::vector<ClientRow> clients;
    std::vector<NewtRow> newts;
};

}  // namespace pangolin
