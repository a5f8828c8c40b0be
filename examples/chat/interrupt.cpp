#include "interrupt.h"

#include <semaphore.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <thread>

namespace chat {

namespace {

std::atomic<bool> flag = false;
sem_t signals;  // a signal handler may post to a semaphore, but not take a lock
std::mutex mutex;
const gptoss::Context* watched = nullptr;

void on_signal(int) {
    const int saved = errno;
    flag = true;
    sem_post(&signals);
    errno = saved;
}

void watch() {
    while (true) {
        if (sem_wait(&signals) != 0) continue;
        std::lock_guard lock(mutex);
        if (watched) watched->cancel();
    }
}

}  // namespace

void catch_interrupts() {
    sem_init(&signals, 0, 0);
    struct sigaction action = {};
    action.sa_handler = on_signal;  // without SA_RESTART: reading a line ends
    sigaction(SIGINT, &action, nullptr);
    std::thread(watch).detach();
}

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
