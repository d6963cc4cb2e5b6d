// Which route a request belongs to: whatever clients send, it is a row of the tables or "other".
#include "userspace/control_plane/routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>

#include "tests/support/random_seed.h"

namespace pangolin {
namespace {

using enum ControlService;

struct Case {
    ControlService service;
    http_method method;
    std::string_view path;
    std::string_view endpoint;
};

constexpr Case cases[] = {
    {external, HTTP_METHOD_GET, "/api/v1", "/api/v1"},
    {external, HTTP_METHOD_GET, "/api/v1/", "/api/v1"},
    {external, HTTP_METHOD_GET, "/api/v1/site/42", "/api/v1/site/:id"},
    {external, HTTP_METHOD_GET, "/api/v1/site/42/", "/api/v1/site/:id"},
    {external, HTTP_METHOD_GET, "/api/v1/org/acme/site/brave-pangolin", "/api/v1/org/:id/site/:id"},
    {external, HTTP_METHOD_GET, "/api/v1/org/acme/sites", "/api/v1/org/:id/sites"},
    // A literal part before a name, also when both would do.
    {external, HTTP_METHOD_GET, "/api/v1/org/checkId", "/api/v1/org/checkId"},
    {external, HTTP_METHOD_PUT, "/api/v1/idp/oidc", "/api/v1/idp/oidc"},
    {external, HTTP_METHOD_POST, "/api/v1/idp/7/oidc", "/api/v1/idp/:id/oidc"},
    // Only the longer one has this name of a part: the way back is taken.
    {external, HTTP_METHOD_POST, "/api/v1/org/checkId", other_endpoint},
    {external, HTTP_METHOD_GET, "/api/v1/org/checkId/sites", "/api/v1/org/:id/sites"},
    {external, HTTP_METHOD_POST, "/api/v1/auth/login", "/api/v1/auth/login"},
    {external, HTTP_METHOD_POST, "/API/v1/Auth/LOGIN", "/api/v1/auth/login"},
    {external, HTTP_METHOD_POST, "/api/v1/auth/login?next=/", "/api/v1/auth/login"},
    {external, HTTP_METHOD_OPTIONS, "/api/v1/auth/login", "/api/v1/auth/login"},
    {external, HTTP_METHOD_GET, "/api/v1/auth/login", other_endpoint},
    {external, HTTP_METHOD_HEAD, "/api/v1/site/42", "/api/v1/site/:id"},
    {external, HTTP_METHOD_HEAD, "/api/v1/auth/login", other_endpoint},
    {external, HTTP_METHOD_OTHER, "/api/v1/site/42", other_endpoint},
    {external, HTTP_METHOD_GET, "/api/v1/ws", "/api/v1/ws"},
    {external, HTTP_METHOD_GET, "/api/v1/auth/device-web-auth/poll/SECRET",
     "/api/v1/auth/device-web-auth/poll/:id"},
    {external, HTTP_METHOD_GET, "//api/v1/site/42", other_endpoint},
    {external, HTTP_METHOD_GET, "/api/v1/site//", other_endpoint},
    {external, HTTP_METHOD_GET, "/api/v1/site/42/docker/status/more", other_endpoint},
    {external, HTTP_METHOD_GET, "http://host/api/v1/site/42", other_endpoint},
    {external, HTTP_METHOD_OPTIONS, "*", other_endpoint},
    {external, HTTP_METHOD_GET, "", other_endpoint},
    {external, HTTP_METHOD_GET, "/", other_endpoint},
    {external, HTTP_METHOD_GET, "/wp-login.php", other_endpoint},
    // The same path is another route, or none, on another port.
    {internal, HTTP_METHOD_GET, "/api/v1/traefik-config", "/api/v1/traefik-config"},
    {external, HTTP_METHOD_GET, "/api/v1/traefik-config", other_endpoint},
    {internal, HTTP_METHOD_POST, "/api/v1/badger/verify-session", "/api/v1/badger/verify-session"},
    {internal, HTTP_METHOD_GET, "/api/v1/resource-session/3/TOKEN", "/api/v1/resource-session/:id/:id"},
    {integration, HTTP_METHOD_GET, "/v1/org/acme/sites", "/v1/org/:id/sites"},
    {integration, HTTP_METHOD_GET, "/v1/openapi.json", "/v1/openapi.json"},
    {integration, HTTP_METHOD_GET, "/v1/docs/swagger-ui.css", "/v1/docs/*"},
    {integration, HTTP_METHOD_GET, "/api/v1/site/42", other_endpoint},
    {next, HTTP_METHOD_GET, "/", "/"},
    {next, HTTP_METHOD_GET, "/acme", "/:id"},
    {next, HTTP_METHOD_GET, "/acme/settings/sites/brave-pangolin/general", "/:id/settings/sites/:id/general"},
    {next, HTTP_METHOD_GET, "/auth/login", "/auth/login"},
    {next, HTTP_METHOD_POST, "/auth/login", "/auth/login"},
    {next, HTTP_METHOD_GET, "/s/SECRET", "/s/:id"},
    {next, HTTP_METHOD_GET, "/_next/static/chunks/main-0123456789abcdef.js", static_endpoint},
    {next, HTTP_METHOD_GET, "/_next/image", "/_next/*"},
    {next, HTTP_METHOD_GET, "/logo/word_mark.png", static_endpoint},
    {next, HTTP_METHOD_GET, "/acme/nowhere/else", other_endpoint},
};

TEST(ControlRoutes, NamesTheRoute) {
    for (const Case& each : cases) {
        SCOPED_TRACE(each.path);
        EXPECT_EQ(find_route(each.service, each.method, each.path).path, each.endpoint);
    }
}

TEST(ControlRoutes, APathThatWasCutIsNoOtherRoute) {
    EXPECT_EQ(find_route(external, HTTP_METHOD_GET, "/api/v1/org/" + std::string(240, 'x'), false).path,
              other_endpoint);
    EXPECT_EQ(find_route(next, HTTP_METHOD_GET, "/_next/image/" + std::string(240, 'x'), false).path,
              "/_next/*");
}

TEST(ControlRoutes, EveryRowIsFoundByItsOwnPath) {
    std::size_t rows = 0;
    for (const auto& [service, table] : {std::pair(external, external_routes()),
                                         {internal, internal_routes()},
                                         {next, next_routes()},
                                         {integration, integration_routes()}}) {
        std::set<std::string_view> paths;
        for (const ControlRoute& route : table) {
            SCOPED_TRACE(route.path);
            EXPECT_TRUE(paths.insert(route.path).second) << "twice in the table";
            EXPECT_NE(route.methods.bits, 0);
            EXPECT_EQ(route.meaning == RouteMeaning::sign_in, !route.auth_method.empty());
            EXPECT_LT(route.path.size(), std::size_t{HTTP_TARGET_BYTES});
            // ":id" as a client's name of something is as good as any.
            std::string path(route.path);
            if (path.ends_with('*'))
                path.replace(path.size() - 1, 1, "anything/below");
            for (unsigned method = 0; method < HTTP_METHODS; ++method) {
                const ControlRoute& found = find_route(service, static_cast<http_method>(method), path);
                if (route.methods.contains(static_cast<http_method>(method)) &&
                    found.path != static_endpoint) {
                    EXPECT_EQ(found.path, route.path);
                }
            }
            ++rows;
        }
    }
    EXPECT_GT(rows, 450U);
}

TEST(ControlRoutes, FirstIdIsWhatStandsInItsPlace) {
    const auto id = [](std::string_view path) {
        return first_id(find_route(external, HTTP_METHOD_POST, path), path);
    };
    EXPECT_EQ(id("/api/v1/auth/resource/17/password"), "17");
    EXPECT_EQ(id("/api/v1/auth/resource/17/password/"), "17");
    EXPECT_EQ(id("/api/v1/auth/login"), "");
    EXPECT_EQ(id("/nowhere/17"), "");
}

// A million requests made of the tables' own words, of names and of nonsense.
TEST(ControlRoutes, HostileClientsMakeNoNewEndpoints) {
    constexpr std::string_view words[] = {"api",   "v1",     "auth", "org",   "site", "settings", "resource",
                                          "_next", "ws",     "logs", ":id",   "*",    "",         ".",
                                          "..",    "%2e%2e", "acme", "login", "user"};
    std::mt19937 random(test::random_seed());
    std::set<std::string_view> endpoints;
    for (int request = 0; request < 1'000'000; ++request) {
        std::string path;
        for (unsigned part = random() % 7; part > 0; --part) {
            path += '/';
            if (random() % 3 == 0)
                path += std::to_string(random());
            else
                path += words[random() % std::size(words)];
        }
        const auto service = static_cast<ControlService>(random() % control_services);
        endpoints.insert(find_route(service, static_cast<http_method>(random() % HTTP_METHODS), path).path);
    }
    std::set<std::string_view> rows{other_endpoint, static_endpoint};
    for (const auto table : {external_routes(), internal_routes(), next_routes(), integration_routes()})
        for (const ControlRoute& route : table)
            rows.insert(route.path);
    EXPECT_GT(endpoints.size(), 10U);
    EXPECT_THAT(rows, testing::IsSupersetOf(endpoints));
}

}  // namespace
}  // namespace pangolin
