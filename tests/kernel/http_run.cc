#include "tests/kernel/http_run.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cstring>

#include "bpf/shared/http.h"
#include "http_run.skel.h"
#include "loader/bpf_error.h"
#include "loader/bpf_map.h"

namespace pangolin::test {
namespace {

constexpr std::size_t ethernet = 14;
constexpr std::size_t headers = ethernet + 20 + 20;
// So that every stream wraps around.
constexpr std::uint32_t first_sequence[2] = {0xfffffff0U, 0xffffff80U};
// A page is what BPF_PROG_RUN takes at a time, less what the kernel needs of it.
constexpr std::size_t largest_payload = 3000;
constexpr std::uint32_t is_request = 1;
constexpr std::uint32_t closes = 2;

void put32(std::uint8_t* at, std::uint32_t value) {
    value = htonl(value);
    std::memcpy(at, &value, sizeof value);
}

std::vector<std::uint8_t> make_frame(std::uint32_t sequence, std::uint32_t acknowledged, std::uint8_t flags,
                                     std::string_view payload) {
    std::vector<std::uint8_t> frame(headers + payload.size());
    frame[12] = 0x08;
    std::uint8_t* const ip = frame.data() + ethernet;
    ip[0] = 0x45;
    const std::size_t length = frame.size() - ethernet;
    ip[2] = static_cast<std::uint8_t>(length >> 8);
    ip[3] = static_cast<std::uint8_t>(length);
    ip[8] = 64;
    ip[9] = 6;
    std::uint8_t* const tcp = ip + 20;
    put32(tcp + 4, sequence);
    put32(tcp + 8, acknowledged);
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    std::copy(payload.begin(), payload.end(), tcp + 20);
    return frame;
}

}  // namespace

void HttpRun::Deleter::operator()(http_run_bpf* skeleton) const {
    http_run_bpf__destroy(skeleton);
}

HttpRun::HttpRun(HttpRun&&) noexcept = default;
HttpRun::~HttpRun() = default;

Result<HttpRun> HttpRun::load() {
    collect_libbpf_messages();
    HttpRun run;
    run.skeleton_.reset(http_run_bpf__open());
    if (!run.skeleton_)
        return bpf_failure(errno, "cannot open the BPF object");
    auto& maps = run.skeleton_->maps;
    // Small, so that reading all of them is quick.
    for (bpf_map* const map :
         {maps.http_connections, maps.http_statuses, maps.http_durations, maps.http_targets})
        bpf_map__set_max_entries(map, 64);
    if (const int error = http_run_bpf__load(run.skeleton_.get()); error != 0)
        return bpf_failure(-error, "cannot load the BPF object");
    run.empty_.resize(bpf_map__value_size(maps.http_connections));
    run.totals_.resize(HTTP_TOTALS);
    return run;
}

void HttpRun::run(std::vector<std::uint8_t>& frame, std::uint32_t what) {
    __sk_buff context{};
    context.cb[0] = connection_;
    context.cb[1] = what;
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = frame.data();
    options.data_size_in = static_cast<std::uint32_t>(frame.size());
    options.ctx_in = &context;
    options.ctx_size_in = sizeof context;
    ASSERT_EQ(bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.http_run), &options), 0);
    ASSERT_EQ(options.retval, 1U);
}

void HttpRun::open() {
    connection_ += 1;
    const std::uint64_t key = connection_;
    ASSERT_EQ(
        bpf_map_update_elem(bpf_map__fd(skeleton_->maps.http_connections), &key, empty_.data(), BPF_ANY), 0);
    for (const int side : {0, 1}) {
        passed_[side].clear();
        auto syn = make_frame(first_sequence[side] - 1, 0, 0x02, {});
        run(syn, side == 0 ? is_request : 0);
    }
}

void HttpRun::pass(const HttpPiece& piece, std::string_view requests, std::string_view responses) {
    if (piece.size > largest_payload) {
        pass({piece.side, piece.begin, largest_payload, false}, requests, responses);
        pass({piece.side, piece.begin + largest_payload, piece.size - largest_payload, piece.ends_stream},
             requests, responses);
        return;
    }
    const int side = piece.side == HttpSide::request ? 0 : 1;
    const std::string_view stream = side == 0 ? requests : responses;
    std::size_t arrived = 0;
    auto other = passed_[1 - side];
    std::ranges::sort(other);
    for (const auto& [begin, end] : other) {
        if (begin <= arrived)
            arrived = std::max(arrived, end);
    }
    auto frame = make_frame(first_sequence[side] + static_cast<std::uint32_t>(piece.begin),
                            first_sequence[1 - side] + static_cast<std::uint32_t>(arrived),
                            piece.ends_stream ? 0x11 : 0x10, stream.substr(piece.begin, piece.size));
    run(frame, side == 0 ? is_request : 0);
    passed_[side].emplace_back(piece.begin, piece.begin + piece.size);
}

HttpResult HttpRun::close() {
    auto frame = make_frame(0, 0, 0x10, {});
    run(frame, closes);
    HttpResult result;
    const auto& maps = skeleton_->maps;
    for (const auto& [key, count] :
         read_hash<http_status_key, std::uint64_t>(bpf_map__fd(maps.http_statuses))) {
        result.requests[{key.method, key.status}] = count;
        bpf_map_delete_elem(bpf_map__fd(maps.http_statuses), &key);
    }
    for (const auto& [key, histogram] :
         read_hash<http_duration_key, latency_histogram>(bpf_map__fd(maps.http_durations))) {
        for (const std::uint64_t bucket : histogram.bucket)
            result.durations[static_cast<int>(key.method)] += bucket;
        bpf_map_delete_elem(bpf_map__fd(maps.http_durations), &key);
    }
    for (const auto& [key, counts] :
         read_hash<std::uint32_t, http_target_counts>(bpf_map__fd(maps.http_targets))) {
        for (const std::uint64_t bucket : counts.size_bucket)
            result.responses += bucket;
        result.response_bytes = counts.size_sum;
        result.aborted = counts.aborted;
        result.open_requests = counts.open_requests;
        result.open_websockets = counts.open_websockets;
        bpf_map_delete_elem(bpf_map__fd(maps.http_targets), &key);
    }
    for (std::uint32_t index = 0; index < totals_.size(); ++index) {
        const std::uint64_t now = read_per_cpu_sum(bpf_map__fd(maps.http_totals), index);
        if (now != totals_[index])
            result.totals[static_cast<int>(index)] = now - totals_[index];
        totals_[index] = now;
    }
    const std::uint64_t key = connection_;
    bpf_map_delete_elem(bpf_map__fd(maps.http_connections), &key);
    return result;
}

std::vector<HttpPiece> cut_randomly(HttpSide side, std::size_t size, std::mt19937_64& random) {
    std::vector<HttpPiece> pieces;
    for (std::size_t begin = 0; begin < size;) {
        const std::size_t most = random() % 4 == 0 ? 8 : 1400;
        const std::size_t length = std::min<std::size_t>(size - begin, 1 + random() % most);
        pieces.push_back({side, begin, length, begin + length == size});
        begin += length;
    }
    if (pieces.empty())
        pieces.push_back({side, 0, 0, true});
    return pieces;
}

}  // namespace pangolin::test
