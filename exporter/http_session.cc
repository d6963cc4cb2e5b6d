#include "exporter/http_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/stream_traits.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "exporter/content_negotiation.h"
#include "exporter/gzip_body.h"
#include "exporter/web_security/web_guard.h"

namespace pangolin {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Header = http::response<http::empty_body>;

// How long and how much a refused client is listened to: closing while it still sends would reset the
// connection and could lose the answer.
constexpr std::chrono::milliseconds linger_time{1'000};
constexpr std::size_t linger_bytes = std::size_t{256} * 1024;
// A body is read in such pieces.
constexpr std::size_t body_block = std::size_t{16} * 1024;

std::string http_date() {
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    gmtime_r(&now, &utc);
    char text[40];
    return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

// "/metrics" of "/metrics?x=1" and of "http://host:9464/metrics".
std::string_view path_of(std::string_view target) {
    if (const std::size_t scheme = target.find("://");
        scheme != std::string_view::npos && target.front() != '/') {
        const std::size_t path = target.find('/', scheme + 3);
        target = path == std::string_view::npos ? "/" : target.substr(path);
    }
    return target.substr(0, target.find_first_of("?#"));
}

// None: close without a word.
std::optional<HttpAnswer> answer_to_bad_request(error_code error) {
    if (error == http::error::header_limit || error == http::error::buffer_overflow)
        return HttpAnswer{.status = http::status::request_header_fields_too_large,
                          .text = "The request's header is too large.\n"};
    if (error == http::error::bad_version)
        return HttpAnswer{.status = http::status::http_version_not_supported,
                          .text = "Only HTTP/1.0 and HTTP/1.1 are spoken here.\n"};
    const bool malformed = error.category() == http::make_error_code(http::error::bad_target).category();
    if (malformed && error != http::error::end_of_stream && error != http::error::partial_message)
        return HttpAnswer{.status = http::status::bad_request, .text = "This is no HTTP request.\n"};
    return std::nullopt;
}

// Of Prometheus' header; none where it is absent or no positive number.
std::optional<std::chrono::milliseconds> scrape_timeout(std::string_view seconds) {
    double value = 0;
    const auto [end, error] = std::from_chars(seconds.data(), seconds.data() + seconds.size(), value);
    constexpr double greatest = 3600;
    if (error != std::errc{} || end != seconds.data() + seconds.size() || !(value > 0) || value > greatest)
        return std::nullopt;
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(value));
}

// Whether `name` is one of the names in "A, B".
bool lists(std::string_view names, std::string_view name) {
    while (!names.empty()) {
        const std::size_t end = names.find(", ");
        if (names.substr(0, end) == name)
            return true;
        names = end == std::string_view::npos ? "" : names.substr(end + 2);
    }
    return false;
}

// The part of one request in the memory that all bodies take.
class BodyAccount {
  public:
    explicit BodyAccount(std::shared_ptr<std::size_t> all) : all_(std::move(all)) {}
    BodyAccount(const BodyAccount&) = delete;
    BodyAccount& operator=(const BodyAccount&) = delete;
    ~BodyAccount() { *all_ -= mine_; }

    std::size_t& operator*() { return mine_; }

  private:
    std::shared_ptr<std::size_t> all_;
    std::size_t mine_ = 0;
};

// A `co_await` here is a whole statement, initializer or result, never part of a condition: of
// `if (!co_await f())` g++ 12 makes code that traps.

using TlsStream = asio::ssl::stream<beast::tcp_stream>;

// Stream: beast::tcp_stream, or a TLS stream above one.
template <class Stream>
class HttpSession {
  public:
    // `clients`: null for one that has no place among them.
    HttpSession(Stream stream, const HttpService& service, ClientList* clients)
        : stream_(std::move(stream)), service_(service), buffer_(service.limits.header_bytes + 1) {
        if (clients != nullptr)
            seat_.emplace(*clients, [this] { beast::get_lowest_layer(stream_).close(); });
    }

    // False: there is nobody to serve.
    asio::awaitable<bool> shake_hands() {
        expires_after(service_.limits.header_time);
        error_code error;
        co_await stream_.async_handshake(asio::ssl::stream_base::server,
                                         asio::redirect_error(asio::use_awaitable, error));
        if (error.category() == asio::error::get_ssl_category() &&
            ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_HTTP_REQUEST)
            co_await tell_of_tls();
        co_return !error;
    }

    asio::awaitable<void> run() {
        // A client that connects and says nothing is given up sooner than one that comes back.
        Clock::duration patience = service_.limits.header_time;
        for (bool keep = true; keep; patience = service_.limits.idle_time) {
            const bool begun = co_await wait_for_request(patience);
            if (!begun)
                break;
            // Made anew for each request: a parser is good for one.
            http::request_parser<http::empty_body> parser;
            parser.header_limit(static_cast<std::uint32_t>(service_.limits.header_bytes));
            // The header is read in any case; objection() judges the length.
            parser.body_limit(boost::none);
            expires_after(service_.limits.header_time);
            error_code error;
            co_await http::async_read_header(stream_, buffer_, parser,
                                             asio::redirect_error(asio::use_awaitable, error));
            if (error) {
                if (std::optional<HttpAnswer> answer = answer_to_bad_request(error))
                    co_await refuse(std::move(*answer));
                break;
            }
            keep = co_await serve(parser);
        }
        co_await say_goodbye();
        shutdown();
    }

    // An answer before or instead of a request that can be understood.
    asio::awaitable<void> refuse(HttpAnswer answer) {
        request_ = {};
        keep_alive_ = false;
        version_ = 11;
        const bool written = co_await write(std::move(answer));
        if (written) {
            co_await say_goodbye();
            co_await linger();
        }
        shutdown();
    }

  private:
    // Before each step of which the client decides how long it takes.
    void expires_after(Clock::duration time) {
        if (seat_)
            seat_->waits();
        beast::get_lowest_layer(stream_).expires_after(time);
    }

    void shutdown() {
        error_code ignored;
        std::ignore =
            beast::get_lowest_layer(stream_).socket().shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
    }

    // So that a client can tell an answer's end from one that was cut off.
    asio::awaitable<void> say_goodbye() {
        if constexpr (std::is_same_v<Stream, TlsStream>) {
            expires_after(linger_time);
            error_code ignored;
            co_await stream_.async_shutdown(asio::redirect_error(asio::use_awaitable, ignored));
        }
        co_return;
    }

    // A browser that was told http:// for https://.
    asio::awaitable<void> tell_of_tls() {
        static constexpr std::string_view answer =
            "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
            "This port speaks HTTPS.\n";
        error_code error;
        co_await asio::async_write(beast::get_lowest_layer(stream_), asio::buffer(answer),
                                   asio::redirect_error(asio::use_awaitable, error));
        if (!error)
            co_await linger();
    }

    // Until the first byte of a request is there.
    asio::awaitable<bool> wait_for_request(Clock::duration patience) {
        if (buffer_.size() > 0)
            co_return true;
        constexpr std::size_t first_read = 2048;
        expires_after(patience);
        if (seat_ && was_served_)
            seat_->rests();
        error_code error;
        const auto space = buffer_.prepare(std::min(first_read, buffer_.max_size()));
        const std::size_t bytes =
            co_await stream_.async_read_some(space, asio::redirect_error(asio::use_awaitable, error));
        buffer_.commit(bytes);
        co_return !error && bytes > 0;
    }

    // True when the connection is good for another request.
    asio::awaitable<bool> serve(http::request_parser<http::empty_body>& parser) {
        const auto& request = parser.get();
        version_ = request.version();
        keep_alive_ = request.keep_alive();
        const auto field = [&](http::field name) { return std::string(request[name]); };
        request_ = {.path = std::string(path_of({request.target().data(), request.target().size()})),
                    .head = request.method() == http::verb::head,
                    .accept = field(http::field::accept),
                    .accept_encoding = field(http::field::accept_encoding),
                    .authorization = field(http::field::authorization),
                    .content_type = field(http::field::content_type),
                    .content_encoding = field(http::field::content_encoding),
                    .scrape_timeout =
                        scrape_timeout(std::string_view(request["X-Prometheus-Scrape-Timeout-Seconds"])),
                    .body = {}};
        std::optional<HttpAnswer> error = objection(parser);
        if (seat_)
            seat_->is_served();
        if (!error && service_.guard != nullptr)
            error = co_await service_.guard->objection(request_);
        BodyAccount account(service_.bodies_bytes);
        if (!error && !parser.is_done()) {
            error = co_await read_body(parser, *account);
        } else if (error && parser.is_done()) {
            const bool written = co_await write(std::move(*error));
            co_return written&& keep_alive_;
        }
        if (error) {
            // Whatever follows may be a body, not a request.
            co_await refuse(std::move(*error));
            co_return false;
        }
        if (seat_)
            seat_->is_served();
        HttpAnswer answer = co_await service_.handler(request_);
        was_served_ = true;
        // Not kept for as long as the connection waits for another.
        std::string().swap(request_.body);
        const bool written = co_await write(std::move(answer));
        co_return written&& keep_alive_;
    }

    std::optional<HttpAnswer> objection(const http::request_parser<http::empty_body>& parser) const {
        const auto& request = parser.get();
        if (!parser.is_done() && service_.limits.body_bytes == 0)
            return HttpAnswer{.status = http::status::payload_too_large,
                              .text = "No request has a body here.\n"};
        if (version_ == 11 && request.count(http::field::host) != 1)
            return HttpAnswer{.status = http::status::bad_request,
                              .text = "HTTP/1.1 wants one header Host.\n"};
        const auto method = request.method_string();
        if (!lists(service_.methods, {method.data(), method.size()}))
            return HttpAnswer{.status = http::status::method_not_allowed,
                              .text = "Methods served: " + std::string(service_.methods) + ".\n"};
        if (service_.limits.body_bytes == 0)
            return std::nullopt;
        if (const auto length = parser.content_length(); length && *length > service_.limits.body_bytes)
            return too_large();
        return service_.objection ? service_.objection(request_) : std::nullopt;
    }

    HttpAnswer too_large() const {
        return {
            .status = http::status::payload_too_large,
            .text = "The body is longer than " + std::to_string(service_.limits.body_bytes) + " bytes.\n"};
    }

    // None: it is in request_.
    asio::awaitable<std::optional<HttpAnswer>> read_body(http::request_parser<http::empty_body>& header,
                                                         std::size_t& in_memory) {
        expires_after(service_.limits.body_time);
        error_code error;
        if (beast::iequals(header.get()[http::field::expect], "100-continue")) {
            static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
            co_await asio::async_write(stream_, asio::buffer(go_on),
                                       asio::redirect_error(asio::use_awaitable, error));
        }
        http::request_parser<http::buffer_body> parser(std::move(header));
        parser.body_limit(service_.limits.body_bytes);
        std::vector<char> block(body_block);
        while (!error && !parser.is_done()) {
            parser.get().body().data = block.data();
            parser.get().body().size = block.size();
            co_await http::async_read_some(stream_, buffer_, parser,
                                           asio::redirect_error(asio::use_awaitable, error));
            if (error == http::error::need_buffer)
                error = {};
            const std::size_t bytes = block.size() - parser.get().body().size;
            if (seat_ && bytes > 0)
                seat_->waits();
            if (*service_.bodies_bytes + bytes > service_.limits.all_bodies_bytes)
                co_return HttpAnswer{.status = http::status::service_unavailable,
                                     .text = "Too many bodies at a time.\n",
                                     .headers = {{http::field::retry_after, "1"}}};
            *service_.bodies_bytes += bytes;
            in_memory += bytes;
            request_.body.append(block.data(), bytes);
        }
        if (error == http::error::body_limit)
            co_return too_large();
        // The connection is cut off already; the answer is for those who count.
        if (error == beast::error::timeout || error == asio::error::operation_aborted)
            co_return HttpAnswer{.status = http::status::request_timeout, .text = "The body did not come.\n"};
        if (error)
            co_return HttpAnswer{.status = http::status::bad_request, .text = "The body is malformed.\n"};
        co_return std::nullopt;
    }

    asio::awaitable<bool> write(HttpAnswer answer) {
        service_.answered(request_.path, static_cast<unsigned>(answer.status));
        deadline_ = Clock::now() + service_.limits.answer_time;
        // Moved out of the answer: it counts as finished when this function ends, however that is.
        const std::shared_ptr<void> finished = std::move(answer.finished);
        Header header(answer.status, version_);
        header.set(http::field::date, http_date());
        header.set(http::field::content_type,
                   beast::string_view(answer.content_type.data(), answer.content_type.size()));
        header.set(http::field::cache_control, "no-store");
        header.set("X-Content-Type-Options", "nosniff");
        if (answer.status == http::status::method_not_allowed)
            header.set(http::field::allow,
                       beast::string_view(service_.methods.data(), service_.methods.size()));
        for (const auto& [name, value] : answer.headers)
            header.set(name, value);
        if (answer.content_type.starts_with("text/html"))
            header.set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
        if (service_.guard != nullptr)
            for (const auto& [name, value] : service_.guard->headers())
                header.set(name, value);
        if (answer.compress)
            header.set(http::field::vary, "Accept, Accept-Encoding");
        if (!answer.body) {
            header.keep_alive(keep_alive_);
            co_return co_await write_text(header, answer.text);
        }
        if (answer.compress && accepts_gzip(request_.accept_encoding)) {
            header.set(http::field::content_encoding, "gzip");
            answer.body = std::make_unique<GzipBody>(std::move(answer.body));
        }
        co_return co_await write_stream(header, *answer.body);
    }

    asio::awaitable<bool> write_text(Header& header, const std::string& text) {
        header.content_length(text.size());
        const bool begun = co_await write_header(header);
        if (!begun)
            co_return false;
        if (request_.head || text.empty())
            co_return true;
        co_return co_await write_some(text);
    }

    // In chunks, which HTTP/1.0 does not have: there the connection's end is the body's.
    asio::awaitable<bool> write_stream(Header& header, Body& body) {
        const bool chunked = version_ == 11;
        keep_alive_ = keep_alive_ && (chunked || request_.head);
        header.chunked(chunked);
        header.keep_alive(keep_alive_);
        const bool begun = co_await write_header(header);
        if (!begun)
            co_return false;
        if (request_.head)
            co_return true;
        for (std::string_view block = body.next_block(); !block.empty(); block = body.next_block()) {
            std::string begin;
            std::string_view end;
            if (chunked) {
                begin = fmt::format("{:x}\r\n", block.size());
                end = "\r\n";
            }
            const bool written = co_await write_some(begin, block, end);
            if (!written)
                co_return false;
        }
        if (!chunked)
            co_return true;
        co_return co_await write_some("0\r\n\r\n");
    }

    asio::awaitable<bool> write_header(Header& header) {
        http::response_serializer<http::empty_body> serializer(header);
        error_code error;
        expires_after(service_.limits.stall_time);
        co_await http::async_write_header(stream_, serializer,
                                          asio::redirect_error(asio::use_awaitable, error));
        co_return !error;
    }

    // Always three parts: Asio's writing is compiled once for each type of buffers, which takes seconds.
    asio::awaitable<bool> write_some(std::string_view first, std::string_view second = {},
                                     std::string_view third = {}) {
        const Clock::time_point now = Clock::now();
        if (now >= deadline_)
            co_return false;
        expires_after(std::min<Clock::duration>(service_.limits.stall_time, deadline_ - now));
        error_code error;
        const std::array buffers{asio::buffer(first), asio::buffer(second), asio::buffer(third)};
        co_await asio::async_write(stream_, buffers, asio::redirect_error(asio::use_awaitable, error));
        co_return !error;
    }

    asio::awaitable<void> linger() {
        error_code error;
        std::ignore =
            beast::get_lowest_layer(stream_).socket().shutdown(asio::ip::tcp::socket::shutdown_send, error);
        expires_after(linger_time);
        std::size_t left = linger_bytes;
        char discarded[4096];
        while (!error) {
            const std::size_t bytes = co_await beast::get_lowest_layer(stream_).async_read_some(
                asio::buffer(discarded), asio::redirect_error(asio::use_awaitable, error));
            if (bytes >= left)
                break;
            left -= bytes;
        }
    }

    Stream stream_;
    const HttpService& service_;
    beast::flat_buffer buffer_;
    Clock::time_point deadline_;
    // Of the request that is being answered.
    HttpRequest request_;
    unsigned version_ = 11;
    bool keep_alive_ = false;
    bool was_served_ = false;
    std::optional<ClientList::Seat> seat_;
};

}  // namespace

asio::awaitable<void> serve_http(asio::ip::tcp::socket socket, const HttpService& service,
                                 ClientList& clients) {
    // Held until the session's end: streams ask it about clients' certificates.
    const std::shared_ptr<TlsContext> tls = service.guard == nullptr ? nullptr : service.guard->tls();
    if (!tls) {
        HttpSession<beast::tcp_stream> session(beast::tcp_stream(std::move(socket)), service, &clients);
        co_await session.run();
        co_return;
    }
    HttpSession<TlsStream> session(TlsStream(beast::tcp_stream(std::move(socket)), tls->context()), service,
                                   &clients);
    const bool served = co_await session.shake_hands();
    if (served)
        co_await session.run();
}

asio::awaitable<void> refuse_http(asio::ip::tcp::socket socket, const HttpService& service,
                                  http::status status, std::string_view reason) {
    if (service.guard != nullptr && service.guard->tls())
        co_return;
    HttpSession<beast::tcp_stream> session(beast::tcp_stream(std::move(socket)), service, nullptr);
    HttpAnswer answer{
        .status = status, .text = std::string(reason), .headers = {{http::field::retry_after, "1"}}};
    co_await session.refuse(std::move(answer));
}

}  // namespace pangolin
