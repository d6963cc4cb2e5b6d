// Durations of HTTP exchanges, by buckets that Pangolin's own requests and Traefik's patience suggest.
#pragma once

#include <linux/types.h>

#include <array>
#include <chrono>
#include <cstdint>

namespace pangolin {

class Durations {
  public:
    // Upper bounds in seconds, inclusive. Pangolin answers most requests within milliseconds, waits up to 60
    // s for its slowest, and Traefik gives up on its configuration after 5 s.
    static constexpr std::array<double, 13> bounds{.001, .0025, .005, .01, .025, .05, .1,
                                                   .25,  .5,    1,    2.5, 5,    10};
    // One for each bound and one for what is beyond the last; not cumulated.
    using Buckets = std::array<__u64, bounds.size() + 1>;

    void observe(std::chrono::nanoseconds duration);

    const Buckets& buckets() const { return buckets_; }
    // In seconds.
    double sum() const { return std::chrono::duration<double>(sum_).count(); }
    std::uint64_t count() const;

  private:
    template <class Archive>
    friend void fields(Archive& archive, Durations& durations) {
        archive(durations.buckets_, durations.sum_);
    }

    Buckets buckets_{};
    std::chrono::nanoseconds sum_{};
};

}  // namespace pangolin
