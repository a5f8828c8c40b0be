#include "api/adapter.h"

#include "api/model.h"

using namespace gptoss;
using namespace gptoss::api;

gptoss_status gptoss_adapter_create(gptoss_model_t model, const char* path, gptoss_adapter_t* adapter_out) {
    if (adapter_out) *adapter_out = nullptr;
    return guard([&] {
        const Held held(model, "model");
        require(path, "path");
        require(adapter_out, "adapter_out");
        *adapter_out = new gptoss_adapter(model::open_adapter(held->model, path));
    });
}

gptoss_status gptoss_adapter_get_info(gptoss_adapter_t adapter, gptoss_adapter_info* info_out) {
    return guard([&] {
        write_struct(gptoss_adapter_info{}, info_out, "info_out");
        const Held held(adapter, "adapter");
        gptoss_adapter_info info{};
        info.rank = held->adapter->weights.rank;
        info.device_bytes = held->adapter->weights.device_bytes;
        write_struct(info, info_out, "info_out");
    });
}

gptoss_status gptoss_adapter_retain(gptoss_adapter_t adapter) { return gptoss_adapter::retain(adapter); }
gptoss_status gptoss_adapter_release(gptoss_adapter_t adapter) { return gptoss_adapter::release(adapter); }
