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
gptoss_context_t watched = nullptr;

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
        if (watched) gptoss_context_cancel(watched);
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

CancelOnInterrupt::CancelOnInterrupt(gptoss_context_t context) {
    std::lock_guard lock(mutex);
    watched = context;
}

CancelOnInterrupt::~CancelOnInterrupt() {
    std::lock_guard lock(mutex);
    gptoss_context_clear_cancel(watched);  // one that came too late
    watched = nullptr;
}

}  // namespace chat
