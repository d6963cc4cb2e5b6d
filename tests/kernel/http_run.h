// Streams of bytes through the kernel's HTTP reader, as TCP segments of a test's making.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "loader/base/error.h"
#include "tests/kernel/http_reference.h"

struct http_run_bpf;

namespace pangolin::test {

enum class HttpSide { request, response };

// A part of one side's stream.
struct HttpPiece {
    HttpSide side = HttpSide::request;
    std::size_t begin = 0;
    std::size_t size = 0;
    bool ends_stream = false;
};

// One connection at a time. Not thread-safe.
class HttpRun {
  public:
    static Result<HttpRun> load();
    HttpRun(HttpRun&&) noexcept;
    ~HttpRun();

    // A new connection; its sequence numbers begin near their wrap-around.
    void open();
    // What a piece acknowledges is as much of the other side as passed without gaps.
    void pass(const HttpPiece& piece, std::string_view requests, std::string_view responses);
    // Closes the connection. Returns what was counted since open().
    HttpResult close();

  private:
    struct Deleter {
        void operator()(http_run_bpf* skeleton) const;
    };
    HttpRun() = default;
    void run(std::vector<std::uint8_t>& frame, std::uint32_t what);

    std::unique_ptr<http_run_bpf, Deleter> skeleton_;
    std::vector<std::uint8_t> empty_;
    std::vector<std::uint64_t> totals_;
    std::uint32_t connection_ = 0;
    std::vector<std::pair<std::size_t, std::size_t>> passed_[2];
};

// `stream` cut at random places.
std::vector<HttpPiece> cut_randomly(HttpSide side, std::size_t size, std::mt19937_64& random);

}  // namespace pangolin::test
