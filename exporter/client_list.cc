#include "exporter/client_list.h"

#include <tuple>
#include <utility>

namespace pangolin {

ClientList::Seat::Seat(ClientList& clients, std::function<void()> cut)
    : clients_(clients), cut_(std::move(cut)), place_(clients.seats_.insert(clients.seats_.end(), this)) {}

ClientList::Seat::~Seat() {
    clients_.seats_.erase(place_);
}

bool ClientList::make_room() {
    const Clock::time_point now = Clock::now();
    Seat* chosen = nullptr;
    for (Seat* const seat : seats_) {
        const bool may_go = seat->state_ == Seat::State::resting ||
                            (seat->state_ == Seat::State::waiting && now - seat->since_ >= patience);
        const auto order = [](const Seat& each) { return std::tuple(each.state_, each.since_); };
        if (may_go && (chosen == nullptr || order(*seat) < order(*chosen)))
            chosen = seat;
    }
    if (chosen == nullptr)
        return false;
    // Not twice: it is on its way out.
    chosen->is_served();
    chosen->cut_();
    return true;
}

}  // namespace pangolin
