// The kernel's HTTP reader against a reference, on streams that are cut, repeated and out of order.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

#include "bpf/shared/http.h"
#include "tests/kernel/http_run.h"
#include "tests/support/privileges.h"
#include "tests/support/random_seed.h"

namespace pangolin::test {
namespace {

using Requests = std::map<std::pair<int, int>, std::uint64_t>;
using Totals = std::map<int, std::uint64_t>;

struct Exchange {
    std::string request;
    std::string response;
};

struct Row {
    const char* what;
    std::vector<Exchange> exchanges;
    Requests requests;
    Totals totals = {};
    std::uint64_t aborted = 0;
};

const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const std::string get = "GET /a?b=c HTTP/1.1\r\nHost: a.example\r\n\r\n";

int opaque(http_opaque kind) {
    return static_cast<int>(http_opaque_index(kind));
}

// Each exchange's request passes before its response.
const std::vector<Row> rows{
    {"one exchange", {{get, ok}}, {{{HTTP_METHOD_GET, 200}, 1}}},
    {"kept alive", {{get, ok}, {get, ok}, {get, ok}}, {{{HTTP_METHOD_GET, 200}, 3}}},
    {"HEAD has no body",
     {{"HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"}, {get, ok}},
     {{{HTTP_METHOD_HEAD, 200}, 1}, {{HTTP_METHOD_GET, 200}, 1}}},
    {"204 and 304 have none either",
     {{"DELETE /x HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"},
      {get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"},
      {get, ok}},
     {{{HTTP_METHOD_DELETE, 204}, 1}, {{HTTP_METHOD_GET, 304}, 1}, {{HTTP_METHOD_GET, 200}, 1}}},
    {"interim responses are no answers",
     {{"PUT /x HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
       "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\n"
       "Content-Length: 0\r\n\r\n"},
      {get, ok}},
     {{{HTTP_METHOD_PUT, 201}, 1}, {{HTTP_METHOD_GET, 200}, 1}}},
    {"chunks, extensions and trailers both ways",
     {{"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b;c\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
       "HTTP/1.1 500 Oops\r\ntransfer-encoding: gzip, Chunked\r\n\r\n1\r\n\n\r\n00A "
       ";x\r\n0123456789\r\n000\r\n"
       "Content-Length: 9\r\n\r\n"},
      {get, ok}},
     {{{HTTP_METHOD_POST, 500}, 1}, {{HTTP_METHOD_GET, 200}, 1}}},
    {"chunked goes before a length",
     {{get,
       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
      {get, ok}},
     {{{HTTP_METHOD_GET, 200}, 2}}},
    {"bodies that look like heads",
     {{"POST / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
       "HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\nHTTP/1.1 500 Oops\r\nA: b\r\n\r\n"},
      {get, ok}},
     {{{HTTP_METHOD_POST, 200}, 1}, {{HTTP_METHOD_GET, 200}, 1}}},
    {"until the connection ends", {{get, "HTTP/1.0 200 OK\r\n\r\nall of it"}}, {{{HTTP_METHOD_GET, 200}, 1}}},
    {"other methods",
     {{"PROPFIND / HTTP/1.1\r\n\r\n", ok},
      {"OPTIONS * HTTP/1.1\r\n\r\n", ok},
      {"get / HTTP/1.1\r\n\r\n", ok},
      {"TRACE / HTTP/1.1\r\n\r\n", ok},
      {"PATCH / HTTP/1.1\r\n\r\n", ok}},
     {{{HTTP_METHOD_OTHER, 200}, 2},
      {{HTTP_METHOD_OPTIONS, 200}, 1},
      {{HTTP_METHOD_TRACE, 200}, 1},
      {{HTTP_METHOD_PATCH, 200}, 1}}},
    {"methods that visitors invent",
     {{get, ok},
      {"PRI / HTTP/1.1\r\nHost: a.example\r\n\r\n", ok},
      {std::string(300, 'M') + " / HTTP/1.1\r\n\r\n", ok},
      {get, ok}},
     {{{HTTP_METHOD_OTHER, 200}, 2}, {{HTTP_METHOD_GET, 200}, 2}}},
    {"pipelined",
     {{get + "HEAD / HTTP/1.1\r\n\r\n" + get, ok + "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n" +
                                                  "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"}},
     {{{HTTP_METHOD_GET, 200}, 1}, {{HTTP_METHOD_HEAD, 404}, 1}, {{HTTP_METHOD_GET, 503}, 1}}},
    {"WebSocket",
     {{get, ok},
      {"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
       "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n\x81\x02hi"}},
     {{{HTTP_METHOD_GET, 200}, 1}, {{HTTP_METHOD_GET, 101}, 1}}},
    {"a tunnel",
     {{"CONNECT a:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n\x16\x03"}},
     {{{HTTP_METHOD_CONNECT, 200}, 1}},
     {{opaque(HTTP_OPAQUE_TUNNEL), 1}}},
    {"a tunnel refused",
     {{"CONNECT a:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"}, {get, ok}},
     {{{HTTP_METHOD_CONNECT, 403}, 1}, {{HTTP_METHOD_GET, 200}, 1}}},
    {"upgraded to h2c",
     {{"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"}},
     {{{HTTP_METHOD_GET, 101}, 1}},
     {{opaque(HTTP_OPAQUE_H2C), 1}}},
    {"TLS", {{"\x16\x03\x01\x02", "\x16\x03\x03"}}, {}, {{opaque(HTTP_OPAQUE_TLS), 1}}},
    {"HTTP/2", {{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "abc"}}, {}, {{opaque(HTTP_OPAQUE_H2C), 1}}},
    {"neither", {{"\x01\x02\x03", "abc"}}, {}, {{opaque(HTTP_OPAQUE_UNKNOWN), 1}}},
    {"an answer to nothing",
     {{get, ok + "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"}},
     {{{HTTP_METHOD_GET, 200}, 1}},
     {{HTTP_LOSS_UNSOLICITED, 1}}},
    {"a response that is none", {{get, "HTTP/2 200\r\n\r\n"}}, {}, {{HTTP_LOSS_MALFORMED, 1}}},
    {"cut off",
     {{get, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort"}},
     {{{HTTP_METHOD_GET, 200}, 1}},
     {},
     1},
    {"cut off in a chunk",
     {{get, "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsho"}},
     {{{HTTP_METHOD_GET, 404}, 1}},
     {},
     1},
    {"cut off in the head",
     {{get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"}},
     {{{HTTP_METHOD_GET, HTTP_STATUS_NONE}, 1}},
     {},
     1},
    {"never answered", {{get, ""}}, {{{HTTP_METHOD_GET, HTTP_STATUS_NONE}, 1}}, {}, 1},
    {"empty lines and bare line feeds",
     {{"\r\n\r\nGET / HTTP/1.1\nHost: x\n\n", "HTTP/1.1 200\nContent-Length:2  \n\nok"}, {get, ok}},
     {{{HTTP_METHOD_GET, 200}, 2}}},
    {"lengths that contradict each other",
     {{get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk"}},
     {{{HTTP_METHOD_GET, 200}, 1}}},
    {"a length said twice",
     {{get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCONTENT-LENGTH: 2, 2\r\n\r\nok"}, {get, ok}},
     {{{HTTP_METHOD_GET, 200}, 2}}},
    {"names that are nearly the ones",
     {{get,
       "HTTP/1.1 200 OK\r\nX-Content-Length: 9\r\nContent-Lengths: 9\r\nContent-Lengt: 9\r\nUpgrade-: h2c\r\n"
       "Content-Length: 2\r\n\r\nok"},
      {get, ok}},
     {{{HTTP_METHOD_GET, 200}, 2}}},
    {"an event stream",
     {{get, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: x\n\n"}},
     {{{HTTP_METHOD_GET, 200}, 1}}},
};

struct Streams {
    std::string requests;
    std::string responses;
};

Streams streams_of(const Row& row) {
    Streams streams;
    for (const Exchange& exchange : row.exchanges) {
        streams.requests += exchange.request;
        streams.responses += exchange.response;
    }
    return streams;
}

class HttpReader : public testing::Test {
  protected:
    // Loading takes longer than all the reading.
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        if (run_)
            return;
        auto loaded = HttpRun::load();
        ASSERT_TRUE(loaded) << loaded.error().message();
        run_.emplace(std::move(*loaded));
    }
    static void TearDownTestSuite() { run_.reset(); }

    // The pieces of each exchange, its request's and then its response's, changed by `change`.
    template <class Cut>
    HttpResult play(const Row& row, const Cut& cut) {
        const Streams streams = streams_of(row);
        std::size_t at[2] = {0, 0};
        run_->open();
        for (const Exchange& exchange : row.exchanges) {
            for (const HttpSide side : {HttpSide::request, HttpSide::response}) {
                const bool is_request = side == HttpSide::request;
                const std::size_t size = is_request ? exchange.request.size() : exchange.response.size();
                std::size_t& position = at[is_request ? 0 : 1];
                const bool last = &exchange == &row.exchanges.back();
                std::vector<HttpPiece> pieces = cut(HttpPiece{side, position, size, last});
                for (const HttpPiece& piece : pieces)
                    run_->pass(piece, streams.requests, streams.responses);
                position += size;
            }
        }
        return run_->close();
    }

    void expect(const Row& row, const HttpResult& result, const std::string& how) {
        EXPECT_EQ(result.requests, row.requests) << row.what << how << ": " << describe(result);
        EXPECT_EQ(result.totals, row.totals) << row.what << how << ": " << describe(result);
        EXPECT_EQ(result.aborted, row.aborted) << row.what << how << ": " << describe(result);
        EXPECT_EQ(result.open_requests, 0) << row.what << how;
        EXPECT_EQ(result.open_websockets, 0) << row.what << how;
    }

    static inline std::optional<HttpRun> run_;
};

std::vector<HttpPiece> cut_at(const HttpPiece& whole, std::vector<std::size_t> places) {
    std::vector<HttpPiece> pieces;
    std::size_t begin = 0;
    places.push_back(whole.size);
    for (const std::size_t place : places) {
        if (place < begin || place > whole.size || (place == begin && place != whole.size))
            continue;
        pieces.push_back(
            {whole.side, whole.begin + begin, place - begin, whole.ends_stream && place == whole.size});
        begin = place;
    }
    return pieces;
}

std::size_t longest(const Row& row) {
    std::size_t size = 0;
    for (const Exchange& exchange : row.exchanges)
        size = std::max({size, exchange.request.size(), exchange.response.size()});
    return size;
}

TEST_F(HttpReader, ReadsWholeMessages) {
    for (const Row& row : rows)
        expect(row, play(row, [](const HttpPiece& whole) { return std::vector{whole}; }), "");
}

TEST_F(HttpReader, ReadsWhatIsCutAnywhere) {
    for (const Row& row : rows) {
        const HttpResult whole = play(row, [](const HttpPiece& piece) { return std::vector{piece}; });
        for (std::size_t place = 1; place < longest(row); ++place) {
            const HttpResult result =
                play(row, [&](const HttpPiece& piece) { return cut_at(piece, {place}); });
            ASSERT_EQ(result, whole) << row.what << " cut at " << place << ": " << describe(result);
        }
    }
}

TEST_F(HttpReader, ReadsThreePieces) {
    for (const Row& row : rows) {
        if (longest(row) > 90)
            continue;
        const HttpResult whole = play(row, [](const HttpPiece& piece) { return std::vector{piece}; });
        for (std::size_t first = 1; first < longest(row); ++first) {
            for (std::size_t second = first + 1; second < longest(row); ++second) {
                const HttpResult result =
                    play(row, [&](const HttpPiece& piece) { return cut_at(piece, {first, second}); });
                ASSERT_EQ(result, whole)
                    << row.what << " cut at " << first << " and " << second << ": " << describe(result);
            }
        }
    }
}

TEST_F(HttpReader, ReadsSingleBytes) {
    for (const Row& row : rows)
        expect(row,
               play(row,
                    [](const HttpPiece& whole) {
                        std::vector<std::size_t> places(whole.size);
                        for (std::size_t i = 0; i < places.size(); ++i)
                            places[i] = i + 1;
                        return cut_at(whole, places);
                    }),
               " by byte");
}

// What is sent again is not read again, whole, in part, or together with what is new.
TEST_F(HttpReader, ReadsRepetitionsOnce) {
    for (const Row& row : rows) {
        for (std::size_t place = 1; place < longest(row); place += 3) {
            const auto repeat = [&](const HttpPiece& whole) {
                std::vector<HttpPiece> pieces = cut_at(whole, {place});
                if (pieces.size() < 2)
                    return std::vector{whole, whole};
                HttpPiece overlap = pieces[1];
                const std::size_t shared = std::min<std::size_t>(place, 7);
                overlap.begin -= shared;
                overlap.size += shared;
                return std::vector{pieces[0], pieces[0], overlap, pieces[1], whole};
            };
            expect(row, play(row, repeat), " repeated around " + std::to_string(place));
        }
    }
}

// The first piece of each side's message comes after the others. That a status is counted exactly then is the
// point; of a head whose end was not seen, the time and size may be known only when the connection goes on.
TEST_F(HttpReader, ReadsReorderedSegments) {
    for (const Row& row : rows) {
        const HttpResult whole = play(row, [](const HttpPiece& piece) { return std::vector{piece}; });
        for (std::size_t place = 1; place < longest(row); ++place) {
            const auto swap = [&](const HttpPiece& piece) {
                std::vector<HttpPiece> pieces = cut_at(piece, {place, place + 20});
                if (pieces.size() > 1)
                    std::rotate(pieces.begin(), pieces.begin() + 1, pieces.end());
                return pieces;
            };
            const HttpResult result = play(row, swap);
            ASSERT_EQ(result, whole) << row.what << " reordered at " << place << ": " << describe(result);
        }
    }
}

std::string long_body(std::size_t size, std::mt19937_64& random) {
    std::string text(size, ' ');
    for (char& c : text)
        c = "0123456789abcdef\r\nHTTP/1.1 200"[random() % 30];
    return text;
}

Exchange random_exchange(std::mt19937_64& random) {
    static const std::array methods{"GET", "POST", "HEAD", "DELETE", "PUT"};
    Exchange exchange;
    const std::string method = methods[random() % methods.size()];
    const std::string sent = long_body(random() % 4 == 0 ? random() % 9000 : 0, random);
    exchange.request =
        method + " / HTTP/1.1\r\nContent-Length: " + std::to_string(sent.size()) + "\r\n\r\n" + sent;
    if (random() % 8 == 0)
        exchange.response = "HTTP/1.1 100 Continue\r\n\r\n";
    const std::size_t status = 200 + random() % 300;
    const bool has_body = status != 204 && status != 304 && method != "HEAD";
    exchange.response += "HTTP/1.1 " + std::to_string(status) +
                         " x\r\nX: " + std::string(random() % 8 == 0 ? random() % 3000 : 20, 'y') + "\r\n";
    if (random() % 2 == 0) {
        const std::string body = long_body(random() % 12000, random);
        exchange.response +=
            "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + (has_body ? body : "");
        return exchange;
    }
    exchange.response += "Transfer-Encoding: chunked\r\n\r\n";
    if (!has_body)
        return exchange;
    for (std::size_t i = random() % 6; i > 0; --i) {
        const std::string chunk = long_body(1 + random() % 2500, random);
        exchange.response += fmt::format("{:x}\r\n{}\r\n", chunk.size(), chunk);
    }
    exchange.response += "0\r\n\r\n";
    return exchange;
}

// As a network that drops, repeats and overtakes delivers them: each piece at last, and the message's end
// before the other side goes on.
std::vector<HttpPiece> deliver_badly(const HttpPiece& whole, std::mt19937_64& random) {
    std::vector<HttpPiece> waiting;
    for (std::size_t begin = 0; begin < whole.size;) {
        const std::size_t size = std::min<std::size_t>(whole.size - begin, 1 + random() % 1240);
        waiting.push_back(
            {whole.side, whole.begin + begin, size, whole.ends_stream && begin + size == whole.size});
        begin += size;
    }
    std::vector<HttpPiece> delivered;
    while (!waiting.empty()) {
        const std::size_t next = random() % 4 == 0 ? random() % std::min<std::size_t>(waiting.size(), 12) : 0;
        const HttpPiece piece = waiting[next];
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(next));
        if (random() % 10 == 0) {
            // Lost, and sent again later.
            const std::size_t later = std::min<std::size_t>(waiting.size(), random() % 20);
            waiting.insert(waiting.begin() + static_cast<std::ptrdiff_t>(later), piece);
            continue;
        }
        delivered.push_back(piece);
        if (random() % 12 == 0)
            delivered.push_back(delivered[random() % delivered.size()]);
    }
    return delivered;
}

// Responses arrive disturbed in every way; what the client sends passes in its order, as it does in the
// kernel that sends it, but some of it again.
TEST_F(HttpReader, StaysExactUnderLossAndReordering) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    for (int connection = 0; connection < 400; ++connection) {
        Row row{.what = "random", .exchanges = {}, .requests = {}};
        for (std::size_t i = 2 + random() % 4; i > 0; --i)
            row.exchanges.push_back(random_exchange(random));
        const HttpResult whole = play(row, [](const HttpPiece& piece) { return std::vector{piece}; });
        const HttpResult result = play(row, [&](const HttpPiece& piece) {
            if (piece.side == HttpSide::response)
                return deliver_badly(piece, random);
            return std::vector{piece, piece};
        });
        ASSERT_EQ(whole.responses, row.exchanges.size()) << describe(whole);
        ASSERT_EQ(result, whole) << "connection " << connection;
    }
}

// All requests first, as a client that pipelines sends them: the reference reads the same.
TEST_F(HttpReader, AgreesWithTheReference) {
    for (const Row& row : rows) {
        const Streams streams = streams_of(row);
        run_->open();
        run_->pass({HttpSide::request, 0, streams.requests.size(), true}, streams.requests,
                   streams.responses);
        run_->pass({HttpSide::response, 0, streams.responses.size(), true}, streams.requests,
                   streams.responses);
        const HttpResult result = run_->close();
        const HttpResult reference = read_http(streams.requests, streams.responses);
        EXPECT_EQ(result, reference) << row.what << ": " << describe(result)
                                     << "\nreference: " << describe(reference);
    }
}

}  // namespace
}  // namespace pangolin::test
