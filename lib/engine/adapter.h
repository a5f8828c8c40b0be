// LoRA adapters of a model, which its sequences take turns with.
#pragma once

#include <memory>
#include <string>

#include "engine/model.h"
#include "weights/lora.h"

namespace gptoss::model {

// On the model's device; immutable, shared by the sequences that have it.
struct Adapter {
    std::shared_ptr<const Model> model;
    LoraWeights weights;
};

// Throws what io::AdapterFiles and load_lora throw. Prefixes give way where memory is short.
std::shared_ptr<const Adapter> open_adapter(std::shared_ptr<const Model> model, const std::string& path);

// A sequence's adapter, and how much of it.
struct Attachment {
    std::shared_ptr<const Adapter> adapter{};  // NULL for none
    float scale = 1;

    LoraUse use() const { return adapter ? adapter->weights.use : LoraUse{}; }
    // Tells apart what sequences with the same tokens compute; 0 for none.
    uint64_t key() const;
};

}  // namespace gptoss::model
