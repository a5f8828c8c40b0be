// A write past the process's limit of file sizes (RLIMIT_FSIZE) is a signal that ends it. Caches are worth no process.
#pragma once

#include <csignal>

namespace gptoss {

// While it lives, writes of this thread past the limit fail with EFBIG instead, and so do those of threads made
// meanwhile.
class NoFileSizeSignal {
  public:
    NoFileSizeSignal() noexcept;
    ~NoFileSizeSignal();
    NoFileSizeSignal(const NoFileSizeSignal&) = delete;
    NoFileSizeSignal& operator=(const NoFileSizeSignal&) = delete;

  private:
#ifdef SIGXFSZ
    sigset_t signal_;
    sigset_t before_;
    bool was_pending_;
#endif
};

}  // namespace gptoss
