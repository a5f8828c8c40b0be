// What all requests share.
#pragma once

#include <gptoss.hpp>

#include <atomic>
#include <ctime>

#include "contexts.h"
#include "metrics.h"
#include "options.h"

namespace server {

struct Service {
    Service(const Options& options, const gptoss::Model& model)
        : options(options),
          model(model),
          tokenizer(model.tokenizer()),
          vocabulary_size(model.info().vocabulary_size),
          contexts(this->model, options.context_length, options.parallel, options.queue) {}

    const Options options;
    const gptoss::Model model;
    const gptoss::Tokenizer tokenizer;
    const uint32_t vocabulary_size;
    Contexts contexts;
    Metrics metrics;
    const std::time_t created = std::time(nullptr);
    std::atomic<bool> stopping = false;     // no request may go on
    std::atomic<bool> device_lost = false;  // nothing can be computed any more
};

}  // namespace server
