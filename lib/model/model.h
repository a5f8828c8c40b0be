// A loaded checkpoint on a device: immutable, shared by its contexts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/config.h"
#include "model/weights.h"
#include "vk/kernels.h"

namespace gptoss::model {

// Which shapes of the kernels suit a device; all give the same results but for rounding.
struct Tuning {
    uint32_t lanes = 32;         // rows that a group of lanes takes at once; see weights.glsl
    uint32_t decode_splits = 1;  // groups of lanes that share a tile's columns, for one token
    uint32_t batch_splits = 1;   // and for many
    uint32_t batch_tokens = 8;   // tokens that share a weight read
    uint32_t attention_workgroup = 32;
    uint32_t attention_splits = 1;         // the most workgroups that share a query's keys
    uint32_t attention_split_keys = 1024;  // keys that are worth a workgroup of their own
    // Batches of this many tokens and more multiply float16 cooperative matrices; UINT32_MAX where there are none.
    uint32_t coopmat_batch = UINT32_MAX;
    uint32_t coopmat_subgroups = 4;  // subgroups of a workgroup
    uint32_t coopmat_tokens = 128;   // the most tokens of a workgroup, a power of two from 32
    uint32_t coopmat_groups = 256;   // workgroups that keep the device busy: it gets smaller ones rather than fewer

    static Tuning for_device(const vk::DeviceInfo& device);
    // Lets batches multiply cooperative matrices, if the device and this build have them.
    void use_coopmat(const vk::DeviceInfo& device);
};

struct ModelOptions {
    const char* device = nullptr;  // see vk::choose_device
    bool kv_f16 = true;
    LoadOptions load;
    // Device memory for the model and its contexts, bytes; 0 for what the device has.
    uint64_t memory_budget = 0;
    // Device memory is kept free of experts for a context of so many tokens; 0 for the default, 8192.
    uint64_t context_length = 0;
    // Host memory for weights that have no room on the device, bytes; 0 for what the host has.
    uint64_t host_memory = 0;
    std::vector<Tuning> candidates;                                  // the first is taken; empty: what suits the device
    std::function<void(int level, const std::string& message)> log;  // may be empty
};

struct Model {
    // Throws what opening the device and loading the weights throw.
    Model(const io::Checkpoint& checkpoint, const ModelOptions& options);

    const io::Config config;
    const bool kv_f16;
    vk::Device device;
    mutable vk::Kernels kernels;  // builds pipelines when they are first needed
    const Tuning tuning;
    const Weights weights;
    const uint64_t fingerprint;  // of the checkpoint and the types of its weights here
};

}  // namespace gptoss::model
