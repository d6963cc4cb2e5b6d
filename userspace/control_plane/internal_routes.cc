#include "userspace/control_plane/route_methods.h"
#include "userspace/control_plane/routes.h"

namespace pangolin {
namespace {

using namespace route_methods;

constexpr ControlRoute rows[] = {
    {"/api/v1", get, RouteMeaning::health_check},
    {"/api/v1/badger/exchange-session", post},
    {"/api/v1/badger/verify-session", post, RouteMeaning::verify_session},
    {"/api/v1/gerbil/get-all-relays", post},
    {"/api/v1/gerbil/get-config", post},
    {"/api/v1/gerbil/get-resolved-hostname", post},
    {"/api/v1/gerbil/receive-bandwidth", post, RouteMeaning::bandwidth_report},
    {"/api/v1/gerbil/update-hole-punch", post, RouteMeaning::hole_punch},
    {"/api/v1/get-session-transfer-token", post},
    {"/api/v1/idp", get},
    {"/api/v1/idp/:id", get},
    {"/api/v1/license/status", get},
    {"/api/v1/login-page", get},
    {"/api/v1/login-page-branding", get},
    {"/api/v1/maintenance/info", get},
    {"/api/v1/org/:id/billing/tier", get},
    {"/api/v1/org/:id/idp", get},
    {"/api/v1/resource-session/:id/:id", get},
    {"/api/v1/resource/:id/get-exchange-token", post},
    {"/api/v1/supporter-key/visible", get},
    {"/api/v1/traefik-config", get, RouteMeaning::traefik_configuration},
};

}  // namespace

std::span<const ControlRoute> internal_routes() {
    return rows;
}

}  // namespace pangolin
