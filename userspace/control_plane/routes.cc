#include "userspace/control_plane/routes.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

namespace pangolin {
namespace {

constexpr std::string_view id_part = ":id";
constexpr std::string_view rest_part = "*";

constexpr ControlRoute other_route{.path = other_endpoint, .methods = {}};
constexpr ControlRoute static_route{.path = static_endpoint, .methods = {}};

// Express compares paths without regard to case (its setting "case sensitive routing" is off).
bool same_word(std::string_view left, std::string_view right) {
    const auto lower = [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
    };
    return std::ranges::equal(left, right, {}, lower, lower);
}

// The part before the next "/" of a path without its first one; the path keeps what is behind it.
std::string_view take_part(std::string_view& path) {
    const std::size_t end = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, end);
    path.remove_prefix(std::min(end + 1, path.size()));
    return part;
}

// Without the first "/" and one at the end, which makes no difference to Express.
std::string_view inner_path(std::string_view path) {
    if (path.starts_with('/'))
        path.remove_prefix(1);
    if (path.ends_with('/'))
        path.remove_suffix(1);
    return path;
}

// One table as a tree of the parts of its paths.
class RouteTree {
  public:
    explicit RouteTree(std::span<const ControlRoute> routes) {
        nodes_.emplace_back();
        for (const ControlRoute& route : routes)
            add(route);
    }

    // Null when no route has such a path. One whose parts are given literally is preferred.
    const ControlRoute* find(std::string_view path) const { return find_below(0, inner_path(path)); }

  private:
    struct Node {
        std::vector<std::pair<std::string_view, std::size_t>> literal;
        std::size_t id = 0;  // the root is nobody's child
        const ControlRoute* here = nullptr;
        const ControlRoute* rest = nullptr;
    };

    void add(const ControlRoute& route) {
        std::size_t node = 0;
        for (std::string_view path = inner_path(route.path); !path.empty();) {
            const std::string_view part = take_part(path);
            if (part == rest_part) {
                nodes_[node].rest = &route;
                return;
            }
            node = child(node, part);
        }
        nodes_[node].here = &route;
    }

    std::size_t child(std::size_t node, std::string_view part) {
        for (const auto& [word, existing] : nodes_[node].literal)
            if (word == part)
                return existing;
        if (part == id_part && nodes_[node].id != 0)
            return nodes_[node].id;
        const std::size_t added = nodes_.size();
        nodes_.emplace_back();
        if (part == id_part)
            nodes_[node].id = added;
        else
            nodes_[node].literal.emplace_back(part, added);
        return added;
    }

    // As deep as the tables' paths are long.
    const ControlRoute* find_below(std::size_t position, std::string_view path) const {
        const Node& node = nodes_[position];
        if (path.empty())
            return node.here;
        std::string_view behind = path;
        const std::string_view part = take_part(behind);
        for (const auto& [word, next] : node.literal)
            if (same_word(word, part))
                if (const ControlRoute* const found = find_below(next, behind))
                    return found;
        if (node.id != 0 && !part.empty())
            if (const ControlRoute* const found = find_below(node.id, behind))
                return found;
        return node.rest;
    }

    std::vector<Node> nodes_;
};

const RouteTree& tree_of(ControlService service) {
    static const std::array<RouteTree, control_services> trees{
        RouteTree(external_routes()), RouteTree(internal_routes()), RouteTree(next_routes()),
        RouteTree(integration_routes())};
    return trees.at(static_cast<std::size_t>(service));
}

bool is_static_file(std::string_view path) {
    static constexpr auto endings =
        std::to_array<std::string_view>({".css", ".gif", ".ico", ".jpg", ".js", ".json", ".map", ".png",
                                         ".svg", ".txt", ".webmanifest", ".webp", ".woff", ".woff2", ".xml"});
    return std::ranges::any_of(endings, [&](std::string_view ending) { return path.ends_with(ending); });
}

bool answers(const ControlRoute& route, http_method method) {
    return route.methods.contains(method) || method == HTTP_METHOD_OPTIONS ||
           (method == HTTP_METHOD_HEAD && route.methods.contains(HTTP_METHOD_GET));
}

}  // namespace

std::string_view method_name(http_method method) {
    switch (method) {
        case HTTP_METHOD_GET:
            return "GET";
        case HTTP_METHOD_HEAD:
            return "HEAD";
        case HTTP_METHOD_POST:
            return "POST";
        case HTTP_METHOD_PUT:
            return "PUT";
        case HTTP_METHOD_DELETE:
            return "DELETE";
        case HTTP_METHOD_CONNECT:
            return "CONNECT";
        case HTTP_METHOD_OPTIONS:
            return "OPTIONS";
        case HTTP_METHOD_TRACE:
            return "TRACE";
        case HTTP_METHOD_PATCH:
            return "PATCH";
        case HTTP_METHOD_OTHER:
        case HTTP_METHODS:
            break;
    }
    return "other";
}

const ControlRoute& find_route(ControlService service, http_method method, std::string_view path,
                               bool complete) {
    path = path.substr(0, path.find_first_of("?#"));
    if (complete && service == ControlService::next && is_static_file(path))
        return static_route;
    const ControlRoute* const route = tree_of(service).find(path);
    if (route == nullptr || !answers(*route, method))
        return other_route;
    // The part that was cut may be another route's, except where the rest does not matter.
    return complete || route->path.ends_with(rest_part) ? *route : other_route;
}

std::string_view first_id(const ControlRoute& route, std::string_view path) {
    std::string_view pattern = inner_path(route.path);
    for (std::string_view rest = inner_path(path); !pattern.empty();) {
        const std::string_view part = take_part(rest);
        if (take_part(pattern) == id_part)
            return part;
    }
    return {};
}

}  // namespace pangolin
