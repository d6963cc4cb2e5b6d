// Events of the kernel's HTTP programs, as a client of Pangolin may shape them: any bytes at all in their
// texts.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/fuzz/must.h"
#include "userspace/control_plane/control_accounts.h"

namespace {

template <class Event>
Event take(const std::uint8_t*& data, std::size_t& size) {
    Event event{};
    const std::size_t taken = std::min(size, sizeof event);
    std::memcpy(&event, data, taken);
    data += taken;
    size -= taken;
    return event;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    const auto now = ControlAccounts::Clock::now();
    ControlAccounts accounts{PangolinPorts{}};
    while (size > 0) {
        const std::uint8_t type = *data++;
        --size;
        // What the kernel promises: lengths that fit.
        if (type % 3 == 0) {
            auto exchange = take<http_exchange>(data, size);
            exchange.event.service_port = static_cast<std::uint16_t>(3000 + exchange.event.service_port % 5);
            exchange.target_length = std::min<__u16>(exchange.target_length, HTTP_TARGET_BYTES);
            exchange.host_length = std::min<__u8>(exchange.host_length, HTTP_HOST_BYTES);
            exchange.body_length = std::min<__u8>(exchange.body_length, HTTP_BODY_BYTES);
            accounts.count(exchange, now);
        } else if (type % 3 == 1) {
            auto frame = take<http_frame>(data, size);
            frame.event.service_port = 3000;
            frame.payload_copied = std::min<__u8>(frame.payload_copied, HTTP_FRAME_BYTES);
            accounts.count(frame);
        } else {
            accounts.close(take<http_event>(data, size));
        }
    }
    accounts.expire(now + std::chrono::hours(1));
    const ControlCounts counts = accounts.counts();
    must(counts.ui_requests.size() <= ControlAccounts::most_series);
    return 0;
}
