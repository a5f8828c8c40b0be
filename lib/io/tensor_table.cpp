#include "io/tensor_table.h"

#include <algorithm>

#include "base/fail.h"

namespace gptoss::io {

namespace {

std::string shape_text(const std::vector<uint64_t>& shape) {
    std::string out;
    for (uint64_t n : shape) out += (out.empty() ? "" : ", ") + std::to_string(n);
    return "(" + out + ")";
}

std::string types_text(const std::vector<DType>& types) {
    std::string out;
    for (size_t i = 0; i < types.size(); i++)
        out += (i == 0 ? "" : i + 1 < types.size() ? ", " : " or ") + std::string(dtype_name(types[i]));
    return out;
}

}  // namespace

std::optional<uint64_t> element_count(const std::vector<uint64_t>& shape) {
    uint64_t n = 1;
    for (uint64_t d : shape)
        if (__builtin_mul_overflow(n, d, &n)) return std::nullopt;
    return n;
}

void check_disjoint(const std::vector<TensorInfo>& tensors, const std::string& source) {
    std::vector<const TensorInfo*> order;
    for (const TensorInfo& t : tensors) order.push_back(&t);
    std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->name < b->name; });
    for (size_t i = 1; i < order.size(); i++)
        if (order[i]->name == order[i - 1]->name) fail(source, "tensor " + quote(order[i]->name) + " is listed twice");
    std::erase_if(order, [](auto* t) { return t->bytes == 0; });
    std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < order.size(); i++)
        if (order[i]->offset - order[i - 1]->offset < order[i - 1]->bytes)
            fail(source, "tensors " + quote(order[i - 1]->name) + " and " + quote(order[i]->name) + " overlap");
}

void TensorTable::add(std::vector<TensorInfo> tensors, const File* file) {
    for (TensorInfo& t : tensors) {
        t.file = file;
        auto [at, fresh] = tensors_.try_emplace(t.name, t);
        if (!fresh) fail(file->path(), "tensor " + quote(t.name) + " is also in " + path_text(at->second.file->path()));
    }
}

const TensorInfo* TensorTable::find(const std::string& name) const {
    auto at = tensors_.find(name);
    return at == tensors_.end() ? nullptr : &at->second;
}

const TensorInfo& TensorTable::get(const std::string& name, const std::vector<DType>& types,
                                   const std::vector<uint64_t>& shape) const {
    const TensorInfo* t = find(name);
    std::string expected = types_text(types) + " of shape " + shape_text(shape);
    if (!t) fail(source_, "tensor " + quote(name) + " is missing: expected " + expected);
    bool typed = t->type && std::find(types.begin(), types.end(), *t->type) != types.end();
    if (!typed || t->shape != shape)
        fail(t->file->path(), "tensor " + quote(name) + ": expected " + expected + ", found " + t->type_name +
                                  " of shape " + shape_text(t->shape) +
                                  (typed ? "" : ": " + std::string(expected_checkpoint)));
    return *t;
}

}  // namespace gptoss::io
