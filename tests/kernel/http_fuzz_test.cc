// Random and mutated HTTP streams through the kernel's reader: never another status than the reference's.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <random>
#include <string>

#include "bpf/shared/http.h"
#include "tests/kernel/http_run.h"
#include "tests/support/privileges.h"
#include "tests/support/random_seed.h"

namespace pangolin::test {
namespace {

using Random = std::mt19937_64;

std::size_t streams() {
    const char* const value = std::getenv("PANGOLIN_FUZZ_STREAMS");
    return value != nullptr ? std::strtoull(value, nullptr, 10) : 20000;
}

template <std::size_t count>
std::string pick(const std::array<const char*, count>& choices, Random& random) {
    return choices[random() % count];
}

std::string body(std::size_t size, Random& random) {
    std::string text(size, 'x');
    for (char& c : text)
        c = "abc\r\n: 0123HTTP/1.1 200\x16\xff"[random() % 24];
    return text;
}

std::string chunked(Random& random) {
    std::string text;
    for (std::size_t i = random() % 4; i > 0; --i) {
        const std::size_t size = 1 + random() % (random() % 8 == 0 ? 3000 : 40);
        std::array<char, 20> digits{};
        std::snprintf(digits.data(), digits.size(), random() % 2 ? "%zx" : "%04zX", size);
        text += digits.data() + pick(std::array{"", "", ";a=b", " ;x=\"y\""}, random) + "\r\n" +
                body(size, random) + "\r\n";
    }
    return text + "0\r\n" + pick(std::array{"", "", "X-T: 1\r\n", "Content-Length: 5\r\nA: b\r\n"}, random) +
           "\r\n";
}

std::string fields(Random& random) {
    std::string text;
    for (std::size_t i = random() % 5; i > 0; --i)
        text += pick(std::array{"Host: a.example\r\n", "Accept: */*\r\n", "Cookie: a=b; c=d\r\n",
                                "Content-Type: text/html\r\n", "X-Forwarded-For: 10.0.0.1\r\n",
                                "Connection: keep-alive\r\n", "Content-Typ: a\r\n", "Upgrade: websocket\r\n",
                                "Content-Type: Text/Event-Stream\r\n", "Upgrade: h2c\r\n",
                                "Transfer-Encodin: chunked\r\n", "A: b\r\n folded\r\n",
                                "Date: Thu, 01 Jan 1970\r\n", "Content-Type: text/event-streams\r\n"},
                     random);
    return text;
}

// A body and the fields that announce it.
std::string framed(Random& random, bool may_end_with_connection) {
    switch (random() % (may_end_with_connection ? 9 : 7)) {
        case 0:
        case 1:
            return fields(random) + "Transfer-Encoding: chunked\r\n" + fields(random) + "\r\n" +
                   chunked(random);
        case 2:
            return fields(random) +
                   pick(std::array{"transfer-encoding:gzip ,chunked\r\n", "Transfer-Encoding: ,Chunked,\r\n",
                                   "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                                   "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"},
                        random) +
                   "\r\n" + chunked(random);
        case 3:
            return fields(random) + "Content-Length: 0\r\n\r\n";
        case 4:
            return pick(
                       std::array{"Content-Length: 4, 4\r\n", "content-length:4 \r\nContent-Length: 4\r\n",
                                  "Content-Length: 0004\r\n", "Content-Length : 4\r\n",
                                  "Content-Length: 4\r\n 5\r\n", "Content-Length: 4\r\nContent-Length: 5\r\n",
                                  "Content-Length: +4\r\n", "Content-Length: 99999999999999999999\r\n",
                                  "Transfer-Encoding: gzip\r\n", "Transfer-Encoding: chunked, gzip\r\n"},
                       random) +
                   "\r\nabcd";
        case 7:
            return fields(random) + "\r\n";
        case 8:
            return fields(random) + "Connection: close\r\n\r\n" + body(random() % 300, random);
        default: {
            const std::size_t size = random() % (random() % 16 == 0 ? 5000 : 200);
            return fields(random) + "Content-Length: " + std::to_string(size) + "\r\n" + fields(random) +
                   "\r\n" + body(size, random);
        }
    }
}

std::string request(Random& random) {
    const std::string method =
        pick(std::array{"GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT",
                        "PROPFIND", "GETS", "get", "M-SEARCH", "OPTIONSX", "PRI",
                        "AMETHODOFMORELETTERSTHANANYBODYEVERWANTED"},
             random);
    const std::string line =
        method + pick(std::array{" / ", " /a/b?c=d%20e ", " * ", " http://a.example/ "}, random) +
        pick(std::array{"HTTP/1.1\r\n", "HTTP/1.1\r\n", "HTTP/1.1\n", "HTTP/1.0\r\n"}, random);
    if (random() % 2 == 0)
        return line + fields(random) + "\r\n";
    return line + framed(random, false);
}

std::string response(Random& random) {
    std::string text;
    if (random() % 8 == 0)
        text =
            pick(std::array{"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
                            "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 102 \r\n\r\n"},
                 random);
    const std::string status = random() % 4 ? "200" : std::to_string(100 + random() % 500);
    return text + pick(std::array{"HTTP/1.1 ", "HTTP/1.1 ", "HTTP/1.0 "}, random) + status +
           pick(std::array{" OK\r\n", "\r\n", " \n", " Some Reason: x\r\n"}, random) +
           framed(random, random() % 4 == 0);
}

void mutate(std::string& text, Random& random) {
    for (std::size_t i = random() % 4; i > 0 && !text.empty(); --i) {
        const std::size_t place = random() % text.size();
        switch (random() % 6) {
            case 0:
                text[place] = static_cast<char>(random());
                break;
            case 1:
                text.erase(place, 1 + random() % 8);
                break;
            case 2:
                text.insert(place, 1, "\r\n :,;\t0a\x16"[random() % 10]);
                break;
            case 3:
                text.insert(place, text.substr(random() % text.size(), random() % 30));
                break;
            case 4:
                text.resize(place);
                break;
            default:
                text[place] = "\r\n :,;\t0a"[random() % 9];
        }
    }
}

// Pieces in their order, with repetitions of what has passed and small exchanges of place.
std::vector<HttpPiece> disturb(const std::vector<HttpPiece>& pieces, Random& random) {
    std::vector<HttpPiece> result;
    for (const HttpPiece& piece : pieces) {
        result.push_back(piece);
        if (random() % 6 == 0)
            result.push_back(result[random() % result.size()]);
    }
    return result;
}

TEST(HttpFuzz, NeverAWrongStatus) {
    PANGOLIN_REQUIRE_ROOT();
    PANGOLIN_TRACE_SEED();
    auto run = HttpRun::load();
    ASSERT_TRUE(run) << run.error().message();
    Random random(random_seed());
    std::uint64_t answered = 0;
    for (std::size_t i = 0; i < streams(); ++i) {
        std::string requests, responses;
        for (std::size_t exchanges = 1 + random() % 4; exchanges > 0; --exchanges) {
            requests += request(random);
            responses += response(random);
        }
        if (random() % 3 == 0)
            mutate(requests, random);
        if (random() % 3 == 0)
            mutate(responses, random);
        run->open();
        for (const HttpPiece& piece :
             disturb(cut_randomly(HttpSide::request, requests.size(), random), random))
            run->pass(piece, requests, responses);
        for (const HttpPiece& piece :
             disturb(cut_randomly(HttpSide::response, responses.size(), random), random))
            run->pass(piece, requests, responses);
        const HttpResult result = run->close();
        const HttpResult reference = read_http(requests, responses);
        answered += reference.responses;
        ASSERT_EQ(result, reference) << "stream " << i << ": " << describe(result)
                                     << "\nreference: " << describe(reference)
                                     << "\nrequests: " << testing::PrintToString(requests)
                                     << "\nresponses: " << testing::PrintToString(responses);
    }
    // The streams are worth something: most of them are answered.
    EXPECT_GT(answered, streams() / 2);
}

}  // namespace
}  // namespace pangolin::test
