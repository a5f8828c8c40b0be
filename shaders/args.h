// Every kernel's arguments, for C++ and GLSL: addresses (accesses.cpp says what is read and written there), then sizes.
// In shapes, T is the number of tokens of a batch, H the width of the residual, I that of an expert, E the number of
// experts, K how many of them a token uses, Q the rows of the queries (query heads * 64).
#ifndef GPTOSS_ARGS_H
#define GPTOSS_ARGS_H

#ifdef __cplusplus
#include <cstdint>
namespace gptoss::args {
using uint = uint32_t;
// Device addresses, named after what lies there.
using F32 = uint64_t;
using Vec4 = uint64_t;
using U32 = uint64_t;
using Tiles = uint64_t;
using Halves = uint64_t;
using IntegerBlocks = uint64_t;
using Scales = uint64_t;
using Tokens = uint64_t;
using Segments = uint64_t;
using Caches = uint64_t;
using Experts = uint64_t;
using SampleBlocks = uint64_t;
using SampleRows = uint64_t;
using LoraPairs = uint64_t;
using LoraRows = uint64_t;
#else
#extension GL_EXT_buffer_reference : require
layout(buffer_reference, std430, buffer_reference_align = 16) buffer F32 { float v[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Vec4 { vec4 v[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer U32 { uint v[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Tiles { uvec4 v[]; };
layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer Segments { U32 v[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Halves { uvec4 v[]; };  // 8 float16 each
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Scales { float v[]; };
#endif

#define TILE_ROWS 64  // rows of a weight tile: two halves of 32, so that a lane can hold rows r and r + 32
#define HEAD_DIM 64
#define MAX_EXPERTS 1024  // of a layer

// How a matrix's weights are stored; see weights.glsl.
#define WEIGHT_F32 0
#define WEIGHT_F16 1
#define WEIGHT_BF16 2
#define WEIGHT_Q8 3
#define WEIGHT_MXFP4 4

// One token of a batch.
struct Token {
    uint id;
    uint position;  // in its sequence
    uint sequence;  // which of the caches
    uint adapter;   // which of the rows in Lora, plus 1; 0 for none
};

// One layer's keys and values of one sequence, in segments of `slots` positions: position p is slot p % slots of segment
// p / slots. Of a ring, which is one segment, it is slot p % slots all the same. A segment holds rows of 32 words, a row
// for each slot and KV head: row slot * n_kv_heads + head from k_row on, and from v_row on. Word i holds dimensions i
// and i + 32: as a float16 pair, or as two float32.
struct Cache {
    Segments segments;  // (n_segments)
    uint slots;         // unless there is one segment only, a multiple of the keys that attention takes at once
    uint n_segments;
    uint k_row;
    uint v_row;
};

// One expert of one layer, wherever its weights lie.
struct Expert {
    Tiles gate_up;  // (2 I, H); the tiles' upper halves are gates, the lower ones their ups
    Tiles down;     // (H, I)
};

#ifndef __cplusplus
// 32 columns of a row as integers: 256 times a high digit and a low one, both signed bytes, first those of the even
// columns, then of the odd ones.
struct IntegerBlock {
    uvec4 high_even;
    uvec4 high_odd;
    uvec4 low_even;
    uvec4 low_odd;
};
#endif

// What sample_prepare finds in a block of 4 * WORKGROUP tokens of the vocabulary.
struct SampleBlock {
    float maximum;  // of the adjusted logits
    float sum;      // of exp(logit - maximum)
    float drawn;    // the largest sum of a logit and its noise
    uint drawn_id;
};

#ifndef __cplusplus
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Tokens { Token v[]; };
layout(buffer_reference, std430, buffer_reference_align = 8) buffer Caches { Cache v[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Experts { Expert v[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer SampleBlocks { SampleBlock v[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer IntegerBlocks { IntegerBlock v[]; };
#endif

// Where a kernel that ends in the residual leaves it for the next norm: `normed` is the new x times the next norm's
// weight, still without its scale; `squares` has the sum of squares of each tile of 64 of x, from which norm_scale
// makes it. That way no kernel has to read the whole row before it starts.
struct Residual {
    F32 x;        // (T, H)
    F32 normed;   // (T, H)
    F32 squares;  // (T, n_squares), n_squares = ceil(H / 64) rounded up to a multiple of 4
    F32 norm;     // (H) the next norm's weight
    uint hidden;
    uint n_squares;
};

// x = embedding[token], for the tokens among the rows that w holds
struct EmbedArgs {
    Residual r;
    Tiles w;  // (n_rows, H)
    Tokens tokens;
    uint first_row;
    uint n_rows;
};

// What a matrix product reads: rows of activations, scaled by their norm.
struct Input {
    Vec4 x;        // (T, cols)
    F32 squares;   // (T, n_squares); see Residual
    uint n_squares;
    uint cols;
    uint n_tokens;
    float eps;
};

// y = W·norm(x) + bias: the router and lm_head
struct LinearArgs {
    Input src;
    Tiles w;      // (rows, cols)
    F32 bias;     // (rows); not read unless has_bias
    F32 y;        // (T, y_stride)
    uint rows;
    uint y_stride;
    uint has_bias;
};

// q, k, v = W·norm(x) + bias; q and k rotated; k and v to the cache
struct QkvArgs {
    Input src;
    Tiles w;       // ((n_heads + 2 n_kv_heads) * 64, H)
    F32 bias;
    F32 rope;      // angles' cosines and sines, see rope_angle
    Tokens tokens;
    Caches caches;
    F32 q;         // (T, n_heads, 64), scaled by 1/8
    uint n_heads;
    uint n_kv_heads;
    uint rope_coarse;  // rows of the coarse table
};

// Attention of the queries of one KV head over a span of its keys
struct AttentionArgs {
    F32 q;          // (T, n_heads, 64)
    Tokens tokens;
    Caches caches;
    F32 sinks;      // (n_heads)
    F32 y;       // (T, n_heads, 64)
    F32 parts;      // (T, n_heads, n_splits, 66): sums, maximum, denominator; unused with one split
    uint n_heads;
    uint n_kv_heads;
    uint window;    // positions; UINT32_MAX for all
    uint n_splits;  // how many workgroups share a query's keys
};

// Joins the splits of attention.
struct CombineArgs {
    F32 parts;
    F32 sinks;
    F32 y;
    uint n_heads;
    uint n_splits;
};

// x += W·attention + bias
struct OutArgs {
    Residual r;
    Vec4 attention;  // (T, Q)
    Tiles w;         // (H, Q)
    F32 bias;        // (H)
    uint cols;
    uint n_tokens;
};

// Tokens sorted by expert, for batches. A slot is a (token, expert) pair; slots of one expert follow each other.
struct RouteArgs {
    F32 logits;     // (T, E)
    U32 slots;      // (T * K): token * K + choice, sorted by expert
    F32 weights;    // (T * K): the weight of (token, choice)
    U32 tiles;      // (n_tiles, 3): expert, first slot, slots; 0 slots in the unused ones
    U32 experts;    // (T * K): the expert of (token, choice), scratch
    U32 uses;       // (E) counted up: how many (token, choice) each expert was
    uint n_tokens;
    uint n_experts;
    uint n_active;
    uint tile_slots;  // the most slots of a tile
    uint n_tiles;     // room in tiles
};

// activation = swiglu(W·norm(x) + bias): (token, choice) or (slot) rows
struct GateUpArgs {
    Input src;
    Experts experts;
    F32 bias;     // (E, 2 I) in the order of the tiles' rows
    F32 logits;   // (T, E) the router's; read when the batch is not grouped
    U32 slots;    // see RouteArgs; read when it is
    U32 tiles;
    F32 y;     // (T * K, I)
    U32 uses;  // see RouteArgs; counted here when the batch is not grouped
    uint n_experts;
    float limit;
    float alpha;
    uint own_bias;  // 1: bias is (T * K, 2 I), by (token, choice); see LoraGateUpArgs
};

// x += the weighted sum of the token's experts' outputs
struct DownArgs {
    Residual r;
    Vec4 x;         // (T * K, I)
    Experts experts;
    F32 bias;       // (E, H)
    F32 logits;     // (T, E)
    uint cols;      // I
    uint n_experts;
    uint n_tokens;
};

// y = W·activation + bias for the slots of a batch
struct DownSlotsArgs {
    Vec4 x;         // (T * K, I) by slot
    Experts experts;
    F32 bias;       // (E, H)
    U32 slots;
    U32 tiles;
    F32 y;       // (T * K, H) by (token, choice)
    uint cols;
    uint hidden;
};

// x += the weighted sum of the slots' outputs
struct MergeArgs {
    Residual r;
    F32 x;        // (T * K, H) by (token, choice)
    F32 weights;  // (T * K)
    uint n_active;
};

// Rows of activations as float16 for the kernels of cooperative matrices, each row times a power of two by which its
// largest is just below 2^15; scales has what a product of the row is to be multiplied by: its norm over that power.
// With two terms the bits that are too many follow, as float16 again: together the terms have 21 bits.
struct HalveArgs {
    Input src;
    Halves y;    // (terms, T, cols)
    F32 scales;  // (T)
    uint terms;
};

// What a product of cooperative matrices reads. Weights are taken as float16 times weight_scale, a power of two by which
// the matrix's largest is below 16; sum_scale has its inverse, and what else the sums are to be multiplied by.
struct HalfInput {
    Halves x;    // (terms, T, cols); see HalveArgs
    F32 scales;  // (T) of each row; not read by down_coopmat
    uint cols;
    uint n_tokens;
    float weight_scale;
    float sum_scale;
};

// As QkvArgs
struct QkvCoopmatArgs {
    HalfInput src;
    Tiles w;
    F32 bias;
    F32 rope;
    Tokens tokens;
    Caches caches;
    F32 q;
    uint n_heads;
    uint n_kv_heads;
    uint rope_coarse;
};

// As OutArgs
struct OutCoopmatArgs {
    Residual r;
    HalfInput src;
    Tiles w;
    F32 bias;
};

// As GateUpArgs of a grouped batch
struct GateUpCoopmatArgs {
    HalfInput src;
    Experts experts;
    F32 bias;
    U32 slots;
    U32 tiles;
    Halves y;       // (T * K, I), by slot
    float y_scale;  // a power of two that y is multiplied by
    float limit;
    float alpha;
    uint n_active;
    uint own_bias;  // see GateUpArgs
};

// As DownSlotsArgs
struct DownCoopmatArgs {
    HalfInput src;
    Experts experts;
    F32 bias;
    U32 slots;
    U32 tiles;
    F32 y;
    uint hidden;
};

// Activations rounded to integers of 16 bits, each block of 32 columns by a scale of its own, which is multiplied by the
// row's norm.
struct RoundArgs {
    Input src;
    IntegerBlocks y;  // (T, cols / 32)
    F32 scales;       // (T, cols / 32)
};

// What a product of integers reads; see RoundArgs.
struct IntegerInput {
    IntegerBlocks x;
    Scales scales;
    uint cols;
};

// As GateUpArgs of a grouped batch
struct GateUpIntegerArgs {
    IntegerInput src;
    Experts experts;
    F32 bias;
    U32 slots;
    U32 tiles;
    F32 y;
    uint n_active;
    float limit;
    float alpha;
    uint own_bias;  // see GateUpArgs
};

// As DownSlotsArgs
struct DownIntegerArgs {
    IntegerInput src;
    Experts experts;
    F32 bias;
    U32 slots;
    U32 tiles;
    F32 y;
    uint hidden;
};

// A low-rank pair of an adapter, whose product is added to that of a weight matrix: y += scale · B·(A·x).
struct LoraPair {
    U32 a;        // (rank, cols), two 16-bit weights a word
    U32 b;        // (tiles of 64 rows, rank, 32): rows i and i + 32 of a tile side by side
    float scale;  // alpha over the rank or its root
    uint rank;    // 0 where the adapter has no such pair
    uint weight;  // WEIGHT_F32, WEIGHT_F16 or WEIGHT_BF16, of both
    uint unused;
};

#ifndef __cplusplus
layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer LoraPairs { LoraPair v[]; };
#endif

// A sequence's adapter.
struct LoraRow {
    LoraPairs pairs;  // (n_layers, 4 + 2 E): of q, k, v and out, of gate_up of each expert, of down of each expert
    float scale;      // the sequence's own
    uint unused;
};

#ifndef __cplusplus
layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer LoraRows { LoraRow v[]; };
#endif

// What the kernels of adapters share. Tokens without an adapter, or whose adapter lacks the pair, are left as they are.
struct Lora {
    Tokens tokens;  // (T)
    LoraRows rows;
    F32 shrunk;     // (T, pairs of one input or K, max_rank): scale · A·x, and the norm's scale with it
    uint pair;      // the first that is meant, of a row's
    uint max_rank;
};

// shrunk = scale · A·norm(x)
struct LoraShrinkArgs {
    Lora l;
    Input src;      // (T, cols); or of down's input (T * K, cols) by slot
    U32 experts;    // (T * K): the expert of (token, choice); read unless n_active is 0
    U32 slots;      // see RouteArgs; read if grouped
    uint n_active;  // K; 0: a row is a token, and its pair no expert's
    uint by_slot;   // x has a row for each slot, not for each token
    uint grouped;   // slots are sorted by expert
    uint halves;    // x is float16
    float x_scale;  // that x is to be multiplied by
};

// q, k, v += B·shrunk, rotated: beside what QkvArgs left in the queries and the cache
struct LoraQkvArgs {
    Lora l;
    F32 rope;
    Caches caches;
    F32 q;
    uint n_heads;
    uint n_kv_heads;
    uint rope_coarse;
};

// x += Σ weight · B·shrunk: beside what out or the experts left in the residual
struct LoraResidualArgs {
    Lora l;
    Residual r;
    U32 experts;    // see LoraShrinkArgs
    F32 weights;    // (T * K): the weight of (token, choice); read unless n_active is 0
    uint n_active;
};

// own bias = bias of the expert + B·shrunk: what gate_up adds before its activation
struct LoraGateUpArgs {
    Lora l;
    F32 bias;     // (E, 2 I), see GateUpArgs
    U32 experts;  // (T * K): the expert of (token, choice)
    F32 y;        // (T * K, 2 I), by (token, choice), of all tokens
};

// What query heads give each key of their token, for whoever looks inside; see tap_attention.comp.
struct TapAttentionArgs {
    F32 q;  // (T, n_heads, 64)
    Tokens tokens;
    Caches caches;
    F32 sinks;         // (n_heads)
    F32 y;             // (tokens of the grid, y_stride): of each (n_heads, its keys), the rest of the stride untouched
    uint first_token;  // of the batch
    uint n_heads;
    uint n_kv_heads;
    uint window;  // positions; UINT32_MAX for all
    uint y_stride;
};

#define IN_CONTEXT 0x80000000u
#define SAMPLE_BIASED 1u
#define SAMPLE_MASKED 2u

// How a row's token is drawn.
struct SampleRow {
    U32 counts;         // (vocab) how often a token stands in the answer, plus IN_CONTEXT if anywhere in the context;
                        // kept up to date here; neither read nor written while all penalties are neutral
    F32 bias;           // (vocab) added to the logits; read if SAMPLE_BIASED
    U32 mask;           // (vocab) bits, of the tokens that may be drawn, at least one; read if SAMPLE_MASKED
    uint seed_low;
    uint seed_high;
    float temperature;  // 0: the largest logit, and the filters do nothing
    uint top_k;         // 0: off
    float top_p;        // 1: off
    float min_p;        // 0: off
    float repetition;   // 1: neutral
    float presence;     // 0: neutral
    float frequency;    // 0: neutral
    uint flags;         // SAMPLE_…
};

#ifndef __cplusplus
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer SampleRows { SampleRow v[]; };
#endif

// The next token of each of R rows, by two dispatches with the same arguments and a barrier between: sample_prepare,
// then sample. Both have the constant WORKGROUP (a multiple of 32) and a grid of (blocks, R), with
// blocks = ceil(vocab / (4 * WORKGROUP)). The token takes the place of the one that the logits follow, with the position
// after that one's and the same sequence, and goes to `ring`.
struct SampleArgs {
    Vec4 logits;          // (R, stride)
    F32 adjusted;         // (R, stride), scratch: after bias, penalties, temperature and mask
    SampleBlocks blocks;  // (R, blocks), scratch
    U32 state;            // (R, 1 + blocks), scratch; zeroed by the host before the first use only
    SampleRows rows;      // (R)
    Tokens tokens;        // (R) the tokens that the logits follow, then the drawn ones
    U32 ring;             // (R, ring_size): the token goes to its position % ring_size
    uint vocab;
    uint stride;          // of a row of logits: vocab, rounded up to a multiple of 4
    uint ring_size;
};

#ifdef __cplusplus
}  // namespace gptoss::args
#endif
#endif  // GPTOSS_ARGS_H
