#include "engine/drafts.h"

#include <algorithm>

namespace gptoss::model {

namespace {

constexpr size_t kMatch = 3;          // tokens that have to stand there before
constexpr size_t kReach = 1 << 14;    // how far back they are looked for: a step must not wait for it
constexpr uint32_t kRun = 4;          // right tokens after which the next ones are more likely to be
constexpr double kWeight = 1.0 / 16;  // of a new observation

}  // namespace

size_t Drafts::find(std::span<const uint32_t> text, uint32_t token) {
    const size_t n = text.size();
    if (n < kMatch) return 0;
    const size_t least = std::max(kMatch, n - std::min(n, kReach));
    for (size_t i = n; i >= least; i--)
        if (text[i - 1] == token && text[i - 2] == text[n - 1] && text[i - 3] == text[n - 2]) return i;
    return 0;
}

void Drafts::add(std::span<const uint32_t> text, uint32_t token) {
    if (source_ > 0) {
        const bool right = text[source_] == token;
        double& rate = rates_[run_ >= kRun];
        rate += kWeight * ((right ? 1 : 0) - rate);
        if (right) {
            source_++;
            run_++;
            return;
        }
    }
    source_ = find(text, token);
    run_ = 0;
}

double Drafts::expected(uint32_t n) const {
    const double rate = rates_[run_ >= kRun];
    double sum = 1, likely = 1;
    for (uint32_t i = 0; i < n; i++) sum += likely *= rate;
    return sum;
}

std::vector<uint32_t> Drafts::next(std::span<const uint32_t> text, uint32_t token, uint32_t n) const {
    std::vector<uint32_t> draft;
    // past the end of the text, the draft's own beginning
    for (size_t i = source_; draft.size() < n; i++)
        draft.push_back(i < text.size() ? text[i] : i == text.size() ? token : draft[i - text.size() - 1]);
    return draft;
}

void StepTimes::add(uint32_t rows, double seconds) {
    if (rows >= seconds_.size()) return;
    count_ += rows == 1;
    double& mean = seconds_[rows];
    // one that waited for something else counts little
    mean = mean > 0 ? mean + 0.125 * (std::min(seconds, 2 * mean) - mean) : seconds;
}

}  // namespace gptoss::model
