// What the HTTP programs cost: a packet of a socket that is none of theirs above an empty program, and a
// whole exchange. Method as in bench_traffic.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "empty.skel.h"
#include "http_run.skel.h"
#include "loader/http_program.h"
#include "loader/socket_program.h"
#include "tests/support/packet_builder.h"
#include "tests/support/program_run.h"

namespace pangolin::test {
namespace {

constexpr std::size_t packets_per_batch = 2000;
constexpr std::size_t exchanges_per_batch = 2000;
constexpr int batches = 15;

[[noreturn]] void fail(const std::string& message) {
    fmt::print(stderr, "{}\n", message);
    std::exit(1);
}

template <class T>
T check(Result<T> result) {
    if (!result)
        fail(result.error().message());
    return std::move(*result);
}

double batch_ns(int program_fd, const std::vector<std::uint8_t>& frame, std::uint32_t repeat) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < packets_per_batch; ++i)
        sum += check(run_program(program_fd, frame, {.repeat = repeat})).duration_ns;
    return static_cast<double>(sum) / packets_per_batch;
}

void print(const std::string& what, std::vector<double> differences) {
    std::ranges::sort(differences);
    fmt::print("bench=http {} ns_above_empty={:.1f} p10={:.1f} p90={:.1f}\n", what, differences[batches / 2],
               differences[batches / 10], differences[batches * 9 / 10]);
}

void measure_packet(const std::string& what, int program_fd, int empty_fd,
                    const std::vector<std::uint8_t>& frame) {
    for (const std::uint32_t repeat : {64U, 1U}) {
        std::vector<double> differences;
        batch_ns(program_fd, frame, repeat);
        for (int batch = 0; batch < batches; ++batch) {
            const double empty = batch_ns(empty_fd, frame, repeat);
            differences.push_back(batch_ns(program_fd, frame, repeat) - empty);
        }
        print(what + (repeat > 1 ? " caches=warm" : " caches=cold"), differences);
    }
}

void put32(std::uint8_t* at, std::uint32_t value) {
    value = htonl(value);
    std::memcpy(at, &value, sizeof value);
}

// TCP segments of one side's stream, one after the other.
class Sender {
  public:
    explicit Sender(const std::string& text)
        : frame_(PacketBuilder()
                     .ipv4({.source = IpAddress::v4(0x7f000001), .destination = IpAddress::v4(0x7f000001)})
                     .tcp()
                     .raw(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()))
                     .build()),
          size_(static_cast<std::uint32_t>(text.size())) {
        tcp()[12] = 5 << 4;
    }

    const std::vector<std::uint8_t>& next(std::uint32_t acknowledged, bool synchronizes = false) {
        put32(tcp() + 4, sequence_);
        put32(tcp() + 8, acknowledged);
        tcp()[13] = synchronizes ? 0x02 : 0x10;
        sequence_ += synchronizes ? 1 : size_;
        return frame_;
    }
    std::uint32_t sequence() const { return sequence_; }

  private:
    std::uint8_t* tcp() { return frame_.data() + ethernet_length + 20; }
    std::vector<std::uint8_t> frame_;
    std::uint32_t size_;
    std::uint32_t sequence_ = 1;
};

std::uint32_t run_segment(int program_fd, const std::vector<std::uint8_t>& frame, std::uint32_t what) {
    __sk_buff context{};
    context.cb[0] = 1;
    context.cb[1] = what;
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = frame.data();
    options.data_size_in = static_cast<std::uint32_t>(frame.size());
    options.ctx_in = &context;
    options.ctx_size_in = sizeof context;
    if (bpf_prog_test_run_opts(program_fd, &options) != 0)
        fail("BPF_PROG_RUN failed");
    return options.duration;
}

// A request as Traefik sends it, and a small response.
void measure_exchange(int empty_fd) {
    http_run_bpf* const skeleton = http_run_bpf__open_and_load();
    if (skeleton == nullptr)
        fail("cannot load the HTTP reader");
    const std::uint64_t key = 1;
    const std::vector<std::uint8_t> zero(bpf_map__value_size(skeleton->maps.http_connections));
    bpf_map_update_elem(bpf_map__fd(skeleton->maps.http_connections), &key, zero.data(), BPF_ANY);
    const int program = bpf_program__fd(skeleton->progs.http_run);
    Sender request(
        "GET /index.html?a=b HTTP/1.1\r\nHost: app.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux "
        "x86_64)\r\n"
        "Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nCookie: "
        "session=0123456789abcdef\r\n"
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: app.example.org\r\nX-Forwarded-Port: 443\r\n"
        "X-Forwarded-Proto: https\r\nX-Forwarded-Server: traefik\r\nX-Real-Ip: 192.0.2.1\r\n"
        "Accept-Encoding: gzip\r\n\r\n");
    Sender response(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: "
        "text/html\r\n"
        "Content-Length: 13\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: "
        "keep-alive\r\n\r\nHello, World!");
    run_segment(program, request.next(0, true), 1);
    run_segment(program, response.next(0, true), 0);
    std::vector<double> differences;
    for (int batch = 0; batch < batches; ++batch) {
        std::uint64_t sum = 0;
        std::uint64_t empty = 0;
        for (std::size_t i = 0; i < exchanges_per_batch; ++i) {
            const auto& asked = request.next(response.sequence());
            empty += run_segment(empty_fd, asked, 0);
            sum += run_segment(program, asked, 1);
            const auto& answered = response.next(request.sequence());
            empty += run_segment(empty_fd, answered, 0);
            sum += run_segment(program, answered, 0);
        }
        differences.push_back((static_cast<double>(sum) - static_cast<double>(empty)) / exchanges_per_batch);
    }
    print("exchange=small caches=cold", differences);
    http_run_bpf__destroy(skeleton);
}

void measure_all(int empty_fd) {
    const auto sockets = check(SocketProgram::attach());
    auto program = check(HttpProgram::attach({.sockets_fd = sockets.sockets_fd(), .cgroups = {}}));
    const std::vector<std::uint8_t> frame =
        PacketBuilder()
            .ipv4({.source = IpAddress::v4(0x7f000001), .destination = IpAddress::v4(0x7f000001)})
            .tcp()
            .payload(512)
            .build();
    // The sockets of BPF_PROG_RUN have no ports.
    program.set_target_ports({80, 8080, 40001});
    measure_packet("socket=other_port direction=ingress", program.program_fd(true), empty_fd, frame);
    measure_packet("socket=other_port direction=egress", program.program_fd(false), empty_fd, frame);
    program.set_target_ports({0, 80, 8080, 40001});
    measure_packet("socket=same_port_other_address direction=ingress", program.program_fd(true), empty_fd,
                   frame);
    measure_packet("socket=same_port_other_address direction=egress", program.program_fd(false), empty_fd,
                   frame);
}

}  // namespace
}  // namespace pangolin::test

int main() {
    empty_bpf* const empty = empty_bpf__open_and_load();
    if (empty == nullptr) {
        fmt::print(stderr, "cannot load BPF programs (HINT: Run as root.)\n");
        return 1;
    }
    const int empty_fd = bpf_program__fd(empty->progs.empty_cgroup);
    pangolin::test::measure_all(empty_fd);
    pangolin::test::measure_exchange(empty_fd);
    empty_bpf__destroy(empty);
    return 0;
}
