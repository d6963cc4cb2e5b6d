// Who is connected, and who of them makes room for another one.
#pragma once

#include <chrono>
#include <functional>
#include <list>

namespace pangolin {

// Of one server; used by its thread alone.
class ClientList {
  public:
    using Clock = std::chrono::steady_clock;

    // For so long a client that is in the middle of something keeps its place.
    static constexpr std::chrono::milliseconds patience{1'000};

    // A connection's place, for as long as it lives.
    class Seat {
      public:
        // `cut` ends the connection; it may be called at any time but while the client is being served.
        Seat(ClientList& clients, std::function<void()> cut);
        Seat(const Seat&) = delete;
        Seat& operator=(const Seat&) = delete;
        ~Seat();

        // It has its answer, and may ask again.
        void rests() { change(State::resting); }
        // Bytes are to come from the client, or to go to it.
        void waits() { change(State::waiting); }
        // An answer is being made.
        void is_served() { change(State::served); }

      private:
        friend class ClientList;
        enum class State { resting, waiting, served };
        void change(State state) {
            state_ = state;
            since_ = Clock::now();
        }

        ClientList& clients_;
        std::function<void()> cut_;
        State state_ = State::waiting;
        Clock::time_point since_ = Clock::now();
        std::list<Seat*>::iterator place_;
    };

    // Cuts off who has rested longest; where nobody rests, who has kept the server waiting longest and beyond
    // its patience. False when there is neither.
    bool make_room();

  private:
    std::list<Seat*> seats_;
};

}  // namespace pangolin
