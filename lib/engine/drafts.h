// Prompt lookup: what followed the last few tokens where they stood before in the timeline may follow them again. Steps
// verify such drafts, several tokens in one forward pass; that is lossless, since a token counts only if it is the one
// that is drawn. Whether it pays follows from how often drafts would have been right, which costs nothing to find out,
// and from how long steps take.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace gptoss::model {

class Drafts {
  public:
    static constexpr uint32_t kMost = 7;  // tokens

    // The text goes on with `token`: finds out whether that was to be expected, and what is next. text: all before it.
    void add(std::span<const uint32_t> text, uint32_t token);
    // The text has changed in between; how often drafts were right is kept.
    void forget() { source_ = 0; }

    bool any() const { return source_ > 0; }
    // How many tokens n drafted ones bring, with the one that every step brings.
    double expected(uint32_t n) const;
    // What may follow the text and the token.
    std::vector<uint32_t> next(std::span<const uint32_t> text, uint32_t token, uint32_t n) const;

  private:
    static size_t find(std::span<const uint32_t> text, uint32_t token);

    size_t source_ = 0;  // where in the text the next token stands if all repeats itself; 0: nowhere
    uint32_t run_ = 0;   // tokens that were right in a row
    // How often a token was right, after a few that were and before: a first estimate, then a mean of the last ones.
    std::array<double, 2> rates_{0.5, 0.8};
};

// How long decode steps of some numbers of rows take, seconds: a mean of the last ones.
class StepTimes {
  public:
    void add(uint32_t rows, double seconds);
    // Of how many of `most` tokens a draft pays, given how many tokens n of them bring; 0 for none.
    template <typename F>
    uint32_t best_draft(uint32_t most, const F& expected) {
        if (count_ < kFirst) return 0;
        uint32_t best = 0;
        double gain = kLeastGain;
        for (const uint32_t n : {1, 3, 7}) {
            if (n > most) break;
            const double time = seconds_[n + 1] > 0 ? seconds_[n + 1] : kGuess * seconds_[1];
            if (const double of_n = expected(n) * seconds_[1] / time; of_n > gain) gain = of_n, best = n;
        }
        // a measurement that was bad luck is forgotten in time
        if (best == 0)
            for (double& seconds : std::span(seconds_).subspan(2)) seconds *= kFading;
        return best;
    }

  private:
    static constexpr uint32_t kFirst = 4;      // steps that are waited for
    static constexpr double kLeastGain = 1.1;  // a draft has to bring: what it brings is uncertain, what it costs sure
    static constexpr double kGuess = 1.5;      // steps that a draft is taken to cost before any was timed
    static constexpr double kFading = 0.999;

    std::array<double, Drafts::kMost + 2> seconds_{};  // by rows; 0: not known
    uint32_t count_ = 0;                               // of one row
};

}  // namespace gptoss::model
