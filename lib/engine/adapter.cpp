#include "engine/adapter.h"

#include <bit>

#include "base/error.h"
#include "base/hash.h"
#include "engine/engine.h"

namespace gptoss::model {

std::shared_ptr<const Adapter> open_adapter(std::shared_ptr<const Model> model, const std::string& path) {
    const io::AdapterFiles files(path, model->config);
    for (;;) try {
            LoraWeights weights = load_lora(model->device, model->pipelines, model->config, files);
            return std::make_shared<const Adapter>(Adapter{model, std::move(weights)});
        } catch (...) {
            if (Error::current().status() != Status::InsufficientMemory || !model->engine->prefixes().evict()) throw;
        }
}

uint64_t Attachment::key() const {
    if (!adapter) return 0;
    Hash hash;
    hash.add(&adapter->weights.contents, sizeof adapter->weights.contents);
    hash.add(&scale, sizeof scale);
    return hash.value() | 1;
}

}  // namespace gptoss::model
