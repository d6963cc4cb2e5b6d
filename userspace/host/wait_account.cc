#include "userspace/host/wait_account.h"

namespace pangolin {
namespace {

void add_growth(std::uint64_t& total, std::uint64_t now, std::uint64_t& before) {
    if (now <= before)
        return;
    total += now - before;
    before = now;
}

}  // namespace

void WaitAccount::restore(const WaitState& state) {
    kept_.restore(state.pins);
    total_ = state.total;
    credited_ = state.credited;
}

void WaitAccount::forget_pins() {
    kept_.restore({});
    restart();
}

WaitState WaitAccount::state() const {
    return {.pins = kept_.written(), .total = total_, .credited = credited_};
}

void WaitAccount::credit(const WaitCounts& now) {
    add_growth(total_.waited_ns, now.waited_ns, credited_.waited_ns);
    add_growth(total_.full, now.full, credited_.full);
    add_growth(total_.encrypted, now.encrypted, credited_.encrypted);
}

void WaitAccount::credit_last(const std::optional<WaitCounts>& last) {
    if (last)
        credit(*last);
}

}  // namespace pangolin
