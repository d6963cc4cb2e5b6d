#include "exporter/http_session.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/stream_traits.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "exporter/content_negotiation.h"
#include "exporter/gzip_body.h"

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

// A `co_await` here is a whole statement, initializer or result, never part of a condition: of
// `if (!co_await f())` g++ 12 makes code that traps.

// Stream: beast::tcp_stream, or a TLS stream above one.
template <class Stream>
class HttpSession {
  public:
    HttpSession(Stream stream, const HttpService& service)
        : stream_(std::move(stream)), service_(service), buffer_(service.limits.header_bytes + 1) {}

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
        shutdown();
    }

    // An answer before or instead of a request that can be understood.
    asio::awaitable<void> refuse(HttpAnswer answer) {
        request_ = {};
        keep_alive_ = false;
        version_ = 11;
        const bool written = co_await write(std::move(answer));
        if (written)
            co_await linger();
        shutdown();
    }

  private:
    void expires_after(Clock::duration time) { beast::get_lowest_layer(stream_).expires_after(time); }

    void shutdown() {
        error_code ignored;
        std::ignore =
            beast::get_lowest_layer(stream_).socket().shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
    }

    // Until the first byte of a request is there.
    asio::awaitable<bool> wait_for_request(Clock::duration patience) {
        if (buffer_.size() > 0)
            co_return true;
        constexpr std::size_t first_read = 2048;
        expires_after(patience);
        error_code error;
        const auto space = buffer_.prepare(std::min(first_read, buffer_.max_size()));
        const std::size_t bytes =
            co_await stream_.async_read_some(space, asio::redirect_error(asio::use_awaitable, error));
        buffer_.commit(bytes);
        co_return !error && bytes > 0;
    }

    // True when the connection is good for another request.
    asio::awaitable<bool> serve(const http::request_parser<http::empty_body>& parser) {
        const auto& request = parser.get();
        version_ = request.version();
        keep_alive_ = request.keep_alive();
        request_ = {.path = std::string(path_of({request.target().data(), request.target().size()})),
                    .head = request.method() == http::verb::head,
                    .accept = std::string(request[http::field::accept]),
                    .accept_encoding = std::string(request[http::field::accept_encoding])};
        if (std::optional<HttpAnswer> error = objection(parser)) {
            // Whatever follows may be a body, not a request.
            if (!parser.is_done()) {
                co_await refuse(std::move(*error));
                co_return false;
            }
            const bool written = co_await write(std::move(*error));
            co_return written&& keep_alive_;
        }
        HttpAnswer answer = co_await service_.handler(request_);
        const bool written = co_await write(std::move(answer));
        co_return written&& keep_alive_;
    }

    std::optional<HttpAnswer> objection(const http::request_parser<http::empty_body>& parser) const {
        const auto& request = parser.get();
        if (!parser.is_done())
            return HttpAnswer{.status = http::status::payload_too_large,
                              .text = "No request has a body here.\n"};
        if (version_ == 11 && request.count(http::field::host) != 1)
            return HttpAnswer{.status = http::status::bad_request,
                              .text = "HTTP/1.1 wants one header Host.\n"};
        if (request.method() != http::verb::get && request.method() != http::verb::head)
            return HttpAnswer{.status = http::status::method_not_allowed,
                              .text = "Only GET and HEAD are served.\n"};
        return std::nullopt;
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
            header.set(http::field::allow, "GET, HEAD");
        if (answer.content_type.starts_with("text/html"))
            header.set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
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
        co_return co_await write_some(asio::buffer(text));
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
            const asio::const_buffer buffer(block.data(), block.size());
            bool written = false;
            if (chunked)
                written = co_await write_some(http::make_chunk(buffer));
            else
                written = co_await write_some(buffer);
            if (!written)
                co_return false;
        }
        if (!chunked)
            co_return true;
        co_return co_await write_some(http::make_chunk_last());
    }

    asio::awaitable<bool> write_header(Header& header) {
        http::response_serializer<http::empty_body> serializer(header);
        error_code error;
        expires_after(service_.limits.stall_time);
        co_await http::async_write_header(stream_, serializer,
                                          asio::redirect_error(asio::use_awaitable, error));
        co_return !error;
    }

    template <class Buffers>
    asio::awaitable<bool> write_some(Buffers buffers) {
        const Clock::time_point now = Clock::now();
        if (now >= deadline_)
            co_return false;
        expires_after(std::min<Clock::duration>(service_.limits.stall_time, deadline_ - now));
        error_code error;
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
            const std::size_t bytes = co_await stream_.async_read_some(
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
};

}  // namespace

asio::awaitable<void> serve_http(asio::ip::tcp::socket socket, const HttpService& service) {
    HttpSession<beast::tcp_stream> session(beast::tcp_stream(std::move(socket)), service);
    co_await session.run();
}

asio::awaitable<void> refuse_http(asio::ip::tcp::socket socket, const HttpService& service,
                                  http::status status, std::string_view reason) {
    HttpSession<beast::tcp_stream> session(beast::tcp_stream(std::move(socket)), service);
    HttpAnswer answer{.status = status, .text = std::string(reason)};
    co_await session.refuse(std::move(answer));
}

}  // namespace pangolin
