#include "interrupt.h"

#include <atomic>
#include <mutex>

#include "system.h"

namespace chat {

namespace {

std::atomic<bool> flag = false;
std::mutex mutex;
const gptoss::Context* watched = nullptr;

void cancel_watched() {
    std::lock_guard lock(mutex);
    if (watched) watched->cancel();
}

}  // namespace

void catch_interrupts() { programs::on_interrupt(flag, cancel_watched); }

bool interrupted() { return flag; }
void clear_interrupt() { flag = false; }

CancelOnInterrupt::CancelOnInterrupt(const gptoss::Context& context) {
    std::lock_guard lock(mutex);
    watched = &context;
}

CancelOnInterrupt::~CancelOnInterrupt() {
    std::lock_guard lock(mutex);
    watched->clear_cancel();  // one that came too late
    watched = nullptr;
}

}  // namespace chat
