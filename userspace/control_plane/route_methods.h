// Short names of methods, for the tables of routes.
#pragma once

#include "userspace/control_plane/routes.h"

namespace pangolin::route_methods {

inline constexpr Methods get = Methods::of(HTTP_METHOD_GET);
inline constexpr Methods put = Methods::of(HTTP_METHOD_PUT);
inline constexpr Methods post = Methods::of(HTTP_METHOD_POST);
inline constexpr Methods patch = Methods::of(HTTP_METHOD_PATCH);
inline constexpr Methods del = Methods::of(HTTP_METHOD_DELETE);
// A page posts its server actions to itself.
inline constexpr Methods page = get | post;
inline constexpr Methods file = get;

}  // namespace pangolin::route_methods
