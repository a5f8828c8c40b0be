#include "io/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/fail.h"
#include "base/path.h"
#include "base/platform.h"
#include "io/gguf.h"
#include "io/locate.h"
#include "io/safetensors.h"
#include "io/tensor_table.h"

namespace gptoss::io {

namespace {

using Files = std::vector<std::unique_ptr<File>>;

constexpr size_t max_config = 1 << 20;
constexpr size_t max_index = 8 << 20;

const std::vector<DType> float_types = {DType::F32, DType::F16, DType::BF16};
const std::vector<DType> dense_types = {DType::F32, DType::F16, DType::BF16, DType::Q8_0};

Matrix get_dense(const TensorTable& table, const std::string& name, uint64_t rows, uint64_t cols) {
    const TensorInfo& t = table.get(name, dense_types, {rows, cols});
    return {name, *t.type, rows, cols, t.file, t.offset};
}

// Biases of all experts; never quantized.
Matrix get_biases(const TensorTable& table, const std::string& name, uint64_t rows, uint64_t cols) {
    const TensorInfo& t = table.get(name, float_types, {rows, cols});
    return {name, *t.type, rows, cols, t.file, t.offset};
}

Matrix get_vector(const TensorTable& table, const std::string& name, uint64_t n) {
    const TensorInfo& t = table.get(name, float_types, {n});
    return {name, *t.type, 1, n, t.file, t.offset};
}

Matrix slice_rows(const Matrix& m, uint64_t first, uint64_t count) {
    return {m.name, m.type, count, m.cols, m.file, m.offset + first * m.row_bytes()};
}

Matrix slice_vector(const Matrix& m, uint64_t first, uint64_t n) {
    return {m.name, m.type, 1, n, m.file, m.offset + dtype_bytes(m.type, first)};
}

// Safetensors have no 4-bit type: blocks and scales are two tensors of bytes.
Experts get_experts(const TensorTable& table, const std::string& blocks_name, const std::string& scales_name,
                    const Config& c, uint64_t rows, uint64_t cols) {
    const TensorInfo& blocks = table.get(blocks_name, {DType::U8}, {c.n_experts, rows, cols / 32, 16});
    const TensorInfo& scales = table.get(scales_name, {DType::U8}, {c.n_experts, rows, cols / 32});
    return {blocks_name, c.n_experts, rows, cols, {{blocks.file, blocks.offset, scales.file, scales.offset}}};
}

// As transformers saves them: in MXFP4, or transposed and not quantized.
Experts get_hugging_face_experts(const TensorTable& table, const std::string& name, const Config& c, uint64_t rows,
                                 uint64_t cols) {
    if (!table.find(name)) return get_experts(table, name + "_blocks", name + "_scales", c, rows, cols);
    const TensorInfo& t = table.get(name, float_types, {c.n_experts, cols, rows});
    return {name, c.n_experts, rows, cols, {{t.file, t.offset}}, *t.type};
}

Experts get_gguf_experts(const TensorTable& table, const std::vector<std::string>& names, const Config& c,
                         uint64_t rows, uint64_t cols) {
    Experts experts{names[0], c.n_experts, rows, cols, {}};
    for (const std::string& name : names) {
        const TensorInfo& t = table.get(name, {DType::MXFP4}, {c.n_experts, rows / names.size(), cols});
        experts.parts.push_back({t.file, t.offset});
    }
    return experts;
}

void map_hugging_face(const TensorTable& table, Checkpoint& out) {
    const Config& c = out.config;
    const uint64_t q_rows = uint64_t{c.n_heads} * c.head_dim, kv_rows = uint64_t{c.n_kv_heads} * c.head_dim;
    out.embedding = get_dense(table, "model.embed_tokens.weight", c.vocab, c.hidden);
    for (uint32_t i = 0; i < c.n_layers; i++) {
        const std::string layer = "model.layers." + std::to_string(i) + ".";
        const std::string attn = layer + "self_attn.", experts = layer + "mlp.experts.";
        LayerTensors t;
        t.attn_norm = get_vector(table, layer + "input_layernorm.weight", c.hidden);
        t.q = get_dense(table, attn + "q_proj.weight", q_rows, c.hidden);
        t.k = get_dense(table, attn + "k_proj.weight", kv_rows, c.hidden);
        t.v = get_dense(table, attn + "v_proj.weight", kv_rows, c.hidden);
        t.q_bias = get_vector(table, attn + "q_proj.bias", q_rows);
        t.k_bias = get_vector(table, attn + "k_proj.bias", kv_rows);
        t.v_bias = get_vector(table, attn + "v_proj.bias", kv_rows);
        t.sinks = get_vector(table, attn + "sinks", c.n_heads);
        t.out = get_dense(table, attn + "o_proj.weight", c.hidden, q_rows);
        t.out_bias = get_vector(table, attn + "o_proj.bias", c.hidden);
        t.mlp_norm = get_vector(table, layer + "post_attention_layernorm.weight", c.hidden);
        t.router = get_dense(table, layer + "mlp.router.weight", c.n_experts, c.hidden);
        t.router_bias = get_vector(table, layer + "mlp.router.bias", c.n_experts);
        t.gate_up =
            get_hugging_face_experts(table, experts + "gate_up_proj", c, 2 * uint64_t{c.intermediate}, c.hidden);
        t.gate_up_bias = {get_biases(table, experts + "gate_up_proj_bias", c.n_experts, 2 * uint64_t{c.intermediate})};
        t.down = get_hugging_face_experts(table, experts + "down_proj", c, c.hidden, c.intermediate);
        t.down_bias = get_biases(table, experts + "down_proj_bias", c.n_experts, c.hidden);
        out.layers.push_back(std::move(t));
    }
    out.final_norm = get_vector(table, "model.norm.weight", c.hidden);
    out.lm_head = c.tied_embeddings ? out.embedding : get_dense(table, "lm_head.weight", c.vocab, c.hidden);
}

// OpenAI's names; queries, keys and values are the rows of one matrix.
void map_original(const TensorTable& table, Checkpoint& out) {
    const Config& c = out.config;
    const uint64_t q_rows = uint64_t{c.n_heads} * c.head_dim, kv_rows = uint64_t{c.n_kv_heads} * c.head_dim;
    out.embedding = get_dense(table, "embedding.weight", c.vocab, c.hidden);
    for (uint32_t i = 0; i < c.n_layers; i++) {
        const std::string block = "block." + std::to_string(i) + ".";
        const std::string attn = block + "attn.", mlp = block + "mlp.";
        LayerTensors t;
        t.attn_norm = get_vector(table, attn + "norm.scale", c.hidden);
        const Matrix qkv = get_dense(table, attn + "qkv.weight", c.qkv_rows(), c.hidden);
        t.q = slice_rows(qkv, 0, q_rows);
        t.k = slice_rows(qkv, q_rows, kv_rows);
        t.v = slice_rows(qkv, q_rows + kv_rows, kv_rows);
        const Matrix qkv_bias = get_vector(table, attn + "qkv.bias", c.qkv_rows());
        t.q_bias = slice_vector(qkv_bias, 0, q_rows);
        t.k_bias = slice_vector(qkv_bias, q_rows, kv_rows);
        t.v_bias = slice_vector(qkv_bias, q_rows + kv_rows, kv_rows);
        t.sinks = get_vector(table, attn + "sinks", c.n_heads);
        t.out = get_dense(table, attn + "out.weight", c.hidden, q_rows);
        t.out_bias = get_vector(table, attn + "out.bias", c.hidden);
        t.mlp_norm = get_vector(table, mlp + "norm.scale", c.hidden);
        t.router = get_dense(table, mlp + "gate.weight", c.n_experts, c.hidden);
        t.router_bias = get_vector(table, mlp + "gate.bias", c.n_experts);
        t.gate_up = get_experts(table, mlp + "mlp1_weight.blocks", mlp + "mlp1_weight.scales", c,
                                2 * uint64_t{c.intermediate}, c.hidden);
        t.gate_up_bias = {get_biases(table, mlp + "mlp1_bias", c.n_experts, 2 * uint64_t{c.intermediate})};
        t.down =
            get_experts(table, mlp + "mlp2_weight.blocks", mlp + "mlp2_weight.scales", c, c.hidden, c.intermediate);
        t.down_bias = get_biases(table, mlp + "mlp2_bias", c.n_experts, c.hidden);
        out.layers.push_back(std::move(t));
    }
    out.final_norm = get_vector(table, "norm.scale", c.hidden);
    out.lm_head = get_dense(table, "unembedding.weight", c.vocab, c.hidden);
}

// llama.cpp's names; gate and up are apart.
void map_gguf(const TensorTable& table, Checkpoint& out) {
    const Config& c = out.config;
    const uint64_t q_rows = uint64_t{c.n_heads} * c.head_dim, kv_rows = uint64_t{c.n_kv_heads} * c.head_dim;
    out.embedding = get_dense(table, "token_embd.weight", c.vocab, c.hidden);
    for (uint32_t i = 0; i < c.n_layers; i++) {
        const std::string blk = "blk." + std::to_string(i) + ".";
        LayerTensors t;
        t.attn_norm = get_vector(table, blk + "attn_norm.weight", c.hidden);
        t.q = get_dense(table, blk + "attn_q.weight", q_rows, c.hidden);
        t.k = get_dense(table, blk + "attn_k.weight", kv_rows, c.hidden);
        t.v = get_dense(table, blk + "attn_v.weight", kv_rows, c.hidden);
        t.q_bias = get_vector(table, blk + "attn_q.bias", q_rows);
        t.k_bias = get_vector(table, blk + "attn_k.bias", kv_rows);
        t.v_bias = get_vector(table, blk + "attn_v.bias", kv_rows);
        t.sinks = get_vector(table, blk + "attn_sinks.weight", c.n_heads);
        t.out = get_dense(table, blk + "attn_output.weight", c.hidden, q_rows);
        t.out_bias = get_vector(table, blk + "attn_output.bias", c.hidden);
        t.mlp_norm = get_vector(table, blk + "post_attention_norm.weight", c.hidden);
        t.router = get_dense(table, blk + "ffn_gate_inp.weight", c.n_experts, c.hidden);
        t.router_bias = get_vector(table, blk + "ffn_gate_inp.bias", c.n_experts);
        t.gate_up = get_gguf_experts(table, {blk + "ffn_gate_exps.weight", blk + "ffn_up_exps.weight"}, c,
                                     2 * uint64_t{c.intermediate}, c.hidden);
        t.gate_up_bias = {get_biases(table, blk + "ffn_gate_exps.bias", c.n_experts, c.intermediate),
                          get_biases(table, blk + "ffn_up_exps.bias", c.n_experts, c.intermediate)};
        t.down = get_gguf_experts(table, {blk + "ffn_down_exps.weight"}, c, c.hidden, c.intermediate);
        t.down_bias = get_biases(table, blk + "ffn_down_exps.bias", c.n_experts, c.hidden);
        out.layers.push_back(std::move(t));
    }
    out.final_norm = get_vector(table, "output_norm.weight", c.hidden);
    out.lm_head = get_dense(table, "output.weight", c.vocab, c.hidden);
}

const File* open_file(Files& files, const std::string& path) {
    files.push_back(std::make_unique<File>(path));
    return files.back().get();
}

// The names of a directory's files that end in suffix, in order.
std::vector<std::string> list_files(const std::string& directory, std::string_view suffix) {
    std::vector<std::string> names;
    for (std::string& name : platform::names_in(directory))
        if (name.ends_with(suffix)) names.push_back(std::move(name));
    return names;
}

// The shards that an index names.
TensorTable read_indexed(const std::string& directory, const std::string& index_path, Files& files) {
    TensorTable table(directory);
    const std::string text = File(index_path).read_all(max_index);
    const auto index = parse_safetensors_index(text.data(), text.size(), index_path);
    std::map<std::string, const File*> shards;
    for (const auto& [tensor, name] : index) {
        const File*& shard = shards[name];
        if (shard) continue;
        const std::string path = directory + "/" + name;
        if (!is_there(path)) fail(path, "is missing, a file that model.safetensors.index.json names: download it too");
        shard = open_file(files, path);
        table.add(read_safetensors(*shard), shard);
    }
    for (const auto& [tensor, name] : index) {
        const TensorInfo* t = table.find(tensor);
        if (!t || t->file != shards[name])
            fail(shards[name]->path(), "tensor " + quote(tensor) + " is missing, which the index says is here");
    }
    return table;
}

// Names such as model-00001-of-00003.safetensors tell how many there are.
void check_all_shards(const std::string& directory, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
        const size_t of = name.rfind("-of-");
        size_t count = 0;
        if (of == name.npos || std::from_chars(&name[of + 4], name.data() + name.size(), count).ec != std::errc())
            continue;
        if (count > names.size())
            fail(directory, "holds " + std::to_string(names.size()) + " of its " + std::to_string(count) +
                                " .safetensors files: download the others too");
    }
}

// One model.safetensors; or the shards that an index names; or, as OpenAI's own loader has it, all there are.
TensorTable read_directory(const std::string& directory, Files& files) {
    const std::string single = directory + "/model.safetensors", index = single + ".index.json";
    if (!is_there(single) && is_there(index)) return read_indexed(directory, index, files);
    const auto names =
        is_there(single) ? std::vector<std::string>{"model.safetensors"} : list_files(directory, ".safetensors");
    if (names.empty())
        fail(directory, "holds no .safetensors file" +
                            std::string(is_there(directory + "/pytorch_model.bin") ? ", only PyTorch's .bin" : "") +
                            ": download the model's .safetensors files");
    check_all_shards(directory, names);
    TensorTable table(directory);
    for (const std::string& name : names) {
        const File* file = open_file(files, directory + "/" + name);
        table.add(read_safetensors(*file), file);
    }
    return table;
}

// Experts in forms that do not load have tensors of other names.
void check_experts(const TensorTable& table) {
    const std::string experts = "model.layers.0.mlp.experts.";
    for (const char* other :
         {"gate_up_proj.weight", "0.gate_proj.weight", "gate_up_projs.0.weight", "gate_proj.weight"})
        if (const TensorInfo* t = table.find(experts + other))
            fail(table.source(), "the experts are not in MXFP4 (" + quote(t->name) + " is " + t->type_name +
                                     "): " + expected_checkpoint);
}

// The other files of a split model, beside the first: NAME-00001-of-00003.gguf is followed by
// NAME-00002-of-00003.gguf and so on.
void read_gguf_splits(const Gguf& first, TensorTable& table, Files& files) {
    constexpr uint32_t max_count = 99999;
    const uint32_t count = first.integer("split.count").value_or(1);
    const std::string& path = first.source;
    if (count <= 1) return;
    char ending[32];
    const auto name_of = [&](uint32_t number) {
        std::snprintf(ending, sizeof ending, "-%05u-of-%05u", number, std::min(count, max_count));
        return std::string(ending);
    };
    const size_t at = path.rfind(name_of(1));
    if (count > max_count || at == path.npos)
        fail(path, "is the first of a split model of " + std::to_string(count) +
                       " files, but its name does not say so: expected a name that ends in " + name_of(1) + ".gguf");
    for (uint32_t number = 2; number <= count; number++) {
        const std::string name = std::string(path).replace(at, name_of(1).size(), name_of(number));
        if (!is_there(name))
            fail(name, "is missing, one of " + std::to_string(count) + " files of a split model: download it too");
        const File* file = open_file(files, name);
        const Gguf split = Gguf::read(*file, is_model_key);
        const uint32_t found = split.integer("split.no").value_or(0) + 1;
        if (found != number || split.integer("split.count").value_or(count) != count)
            fail(name, "says it is file " + std::to_string(found) + " of a split model: expected file " +
                           std::to_string(number) + " of " + std::to_string(count));
        table.add(gguf_tensors(split), file);
    }
}

}  // namespace

Checkpoint::Checkpoint(const std::string& path) {
    const Location location = locate_checkpoint(path);
    if (location.is_gguf)
        read_gguf(location.path);
    else
        read_safetensors_directory(location.path);
    const auto named = [&](const auto& file) { return file_name(file->path()) == location.part; };
    if (location.part.ends_with(".safetensors") && std::none_of(files_.begin(), files_.end(), named))
        fail(path, "is not a part of the checkpoint around it: give the directory, or another one");
}

void Checkpoint::read_gguf(const std::string& path) {
    const File& file = *open_file(files_, path);
    const Gguf gguf = Gguf::read(file, is_model_key);
    check_gguf_architecture(gguf);
    TensorTable table(path);
    table.add(gguf_tensors(gguf), &file);
    read_gguf_splits(gguf, table, files_);
    config = parse_gguf_config(gguf, table.find("token_embd.weight"));
    map_gguf(table, *this);
    tokenizer_path = path;
}

void Checkpoint::read_safetensors_directory(const std::string& path) {
    const auto read_small = [&](const std::string& file) { return File(file).read_all(max_config); };
    const std::string config_path = path + "/config.json", generation_path = path + "/generation_config.json";
    const std::string text = read_small(config_path);
    config = parse_config(text.data(), text.size(), config_path);
    if (is_there(generation_path)) {
        const std::string generation = read_small(generation_path);
        for (const uint32_t token : parse_eos_tokens(generation.data(), generation.size(), generation_path))
            config.eos_tokens.push_back(token);
    }
    const TensorTable table = read_directory(path, files_);
    if (table.find("embedding.weight")) {
        map_original(table, *this);
    } else {
        check_experts(table);
        map_hugging_face(table, *this);
    }
    if (is_there(path + "/tokenizer.json"))
        tokenizer_path = path + "/tokenizer.json";
    else if (const auto ranks = list_files(path, ".tiktoken"); !ranks.empty())
        tokenizer_path = path + "/" + ranks[0];
}

}  // namespace gptoss::io
