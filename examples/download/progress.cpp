#include "progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "hub.h"

namespace hub {

namespace {

constexpr std::chrono::milliseconds pause{250};

int columns() {
    winsize size{};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string time_text(double seconds) {
    if (!(seconds < 360'000)) return "-:--";
    const long whole = std::lround(seconds), hours = whole / 3600;
    char text[32];
    if (hours > 0)
        std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", hours, whole / 60 % 60, whole % 60);
    else
        std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
    return text;
}

}  // namespace

Progress::Progress(uint64_t total, bool quiet) : total_(total), quiet_(quiet), drawn_(!quiet && isatty(STDERR_FILENO)) {
    if (!drawn_) return;
    painter_ = std::thread([this] {
        std::unique_lock lock(mutex_);
        while (!changed_.wait_for(lock, pause, [this] { return over_; })) {
            const auto now = static_cast<double>(received_ - received_before_);
            const double latest = now / std::chrono::duration<double>(pause).count();
            speed_ = speed_ == 0 ? latest : 0.95 * speed_ + 0.05 * latest;  // about the last five seconds
            received_before_ = received_;
            draw();
        }
        draw();
        std::fputs("\n", stderr);
    });
}

Progress::~Progress() {
    if (!drawn_) return;
    {
        std::lock_guard lock(mutex_);
        over_ = true;
    }
    changed_.notify_one();
    painter_.join();
}

void Progress::draw() {
    const uint64_t done = std::min<uint64_t>(done_, total_);
    const double part = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1;
    std::string text = size_text(done) + " of " + size_text(total_);
    if (over_) {
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun_;
        text += ", " + time_text(taken.count());
    } else if (speed_ > 0) {
        text += ", " + size_text(static_cast<uint64_t>(speed_)) + "/s, " +
                time_text(static_cast<double>(total_ - done) / speed_) + " left";
    }
    const int width = std::clamp(columns() - static_cast<int>(text.size()) - 10, 0, 40);
    const auto filled = static_cast<size_t>(std::floor(part * width));
    const std::string bar = std::string(filled, '#') + std::string(static_cast<size_t>(width) - filled, '.');
    std::fprintf(stderr, "\r\033[K%3d%% %s %s", static_cast<int>(std::floor(100 * part)), bar.c_str(), text.c_str());
}

void Progress::note(const std::string& line) {
    std::lock_guard lock(mutex_);
    std::fprintf(stderr, "%s%s\n", drawn_ ? "\r\033[K" : "", line.c_str());
}

void Progress::finished(const std::string& line) {
    if (!quiet_ && !drawn_) note(line);
}

}  // namespace hub
