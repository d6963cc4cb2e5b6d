#include "userspace/metadata/http_get.h"

#include <fmt/format.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "loader/base/ip_prefix.h"
#include "loader/base/number.h"
#include "userspace/metadata/name_lookup.h"
#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

constexpr std::uint32_t header_limit = 65536;

bool is_host(std::string_view host) {
    for (const char character : host) {
        const auto byte = static_cast<unsigned char>(character);
        if (byte <= ' ' || byte >= 0x7f || character == '@' || character == '?' || character == '#')
            return false;
    }
    return !host.empty();
}

asio::awaitable<HttpResponse> get(const HttpEndpoint& endpoint, std::vector<tcp::endpoint> addresses,
                                  std::string target, const HttpGetOptions& options) {
    beast::tcp_stream stream(co_await asio::this_coro::executor);
    co_await stream.async_connect(addresses, asio::use_awaitable);

    http::request<http::empty_body> request(http::verb::get, target, 11);
    request.set(http::field::host, endpoint.authority());
    request.set(http::field::user_agent, "pangolin_exporter");
    if (!options.accept.empty())
        request.set(http::field::accept, options.accept);
    if (!options.accept_encoding.empty())
        request.set(http::field::accept_encoding, options.accept_encoding);
    request.set(http::field::connection, "close");
    co_await http::async_write(stream, request, asio::use_awaitable);

    beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.header_limit(header_limit);
    parser.body_limit(options.size_limit);
    co_await http::async_read(stream, buffer, parser, asio::use_awaitable);

    HttpResponse answer;
    answer.status = parser.get().result_int();
    answer.content_type = parser.get()[http::field::content_type];
    answer.content_encoding = parser.get()[http::field::content_encoding];
    const beast::string_view next = parser.get()["X-Next-Page"];
    answer.next_page = parse_number<unsigned>({next.data(), next.size()}).value_or(0);
    answer.body = std::move(parser.get().body());
    co_return answer;
}

}  // namespace

Result<HttpEndpoint> HttpEndpoint::parse(std::string_view url) {
    constexpr std::string_view scheme = "http://";
    const auto malformed = [&] {
        return failure(in_quotes(url) + " is not the URL of an HTTP server that can be read",
                       "Write it as in http://127.0.0.1:8080, without https and without a user name.");
    };
    if (!url.starts_with(scheme))
        return malformed();
    const std::string_view rest = url.substr(scheme.size());
    const std::string_view authority = rest.substr(0, rest.find('/'));
    HttpEndpoint server;
    server.path = rest.substr(authority.size());
    while (server.path.ends_with('/'))
        server.path.pop_back();
    const std::size_t bracket = authority.rfind(']');
    const std::size_t colon = authority.rfind(':');
    const bool has_port =
        colon != std::string_view::npos && (bracket == std::string_view::npos || bracket < colon);
    std::string_view host = has_port ? authority.substr(0, colon) : authority;
    if (has_port) {
        const auto port = parse_number<std::uint16_t>(authority.substr(colon + 1));
        if (!port || *port == 0)
            return malformed();
        server.port = *port;
    }
    if (host.starts_with('[') && host.ends_with(']'))
        host = host.substr(1, host.size() - 2);
    else if (host.find(':') != std::string_view::npos)
        return malformed();
    server.host = host;
    if (!is_host(host) || (!server.path.empty() && !is_host(server.path)))
        return malformed();
    return server;
}

std::string HttpEndpoint::authority() const {
    const bool needs_brackets = host.find(':') != std::string::npos;
    return needs_brackets ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<HttpResponse> http_get(const HttpEndpoint& endpoint, const std::string& target,
                              const HttpGetOptions& options) {
    const std::string what =
        fmt::format("cannot read http://{}{}{}", endpoint.authority(), endpoint.path, target);
    const auto deadline = std::chrono::steady_clock::now() + options.time_limit;
    auto addresses = look_up(endpoint.host, endpoint.port, options.time_limit, options.stop);
    if (!addresses) {
        addresses.error().what = what + ": " + addresses.error().what;
        return std::unexpected(std::move(addresses.error()));
    }
    std::optional<HttpResponse> answer;
    std::exception_ptr error;
    asio::io_context context(1);
    const std::stop_callback on_stop(options.stop, [&] { context.stop(); });
    asio::co_spawn(context, get(endpoint, std::move(*addresses), endpoint.path + target, options),
                   [&](const std::exception_ptr& thrown, HttpResponse result) {
                       error = thrown;
                       answer = std::move(result);
                   });
    context.run_until(deadline);
    if (!answer)
        return failure(fmt::format("{}: no answer within {} ms", what, options.time_limit.count()), "",
                       ETIMEDOUT);
    if (!error)
        return std::move(*answer);
    try {
        std::rethrow_exception(error);
    } catch (const boost::system::system_error& failed) {
        return failure(fmt::format("{}: {}", what, escaped(failed.code().message())));
    } catch (const std::exception& failed) {
        return failure(fmt::format("{}: {}", what, escaped(failed.what())));
    }
}

}  // namespace pangolin
