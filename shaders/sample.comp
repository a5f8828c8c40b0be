// Draws the tokens. Grid: (blocks, rows).
//
// No filter needs the tokens sorted. top-k keeps a token if fewer than k tokens are before it in the order of
// likelihood, top-p if those before it have a mass below p. So draw from all tokens, and if the filters drop what was
// drawn, they drop all that is behind it too: draw again among the tokens before it. A draw from top-p's set takes one
// pass over the logits, which the workgroups of the row share, with probability p; the last one to finish goes on alone.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/sample.glsl"

layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Shared { uint v[]; };

shared uint bins[256];
shared uint found;
shared uint found_rank;

uint n_blocks() { return gl_NumWorkGroups.x; }

// This invocation's four logits of a block.
vec4 load(uint block) {
    uint i = block * WORKGROUP + gl_LocalInvocationID.x;
    return 4 * i < a.vocab ? Vec4(a.adjusted).v[first_vec4() + i] : vec4(PADDING);
}

uint first_id(uint block) { return 4 * (block * WORKGROUP + gl_LocalInvocationID.x); }

// What this invocation's tokens of a block weigh that are before a place, relative to the likeliest token.
float block_mass(uint block, Place place, float maximum) {
    if (a.blocks.v[first_block() + block].maximum < place.logit) return 0;
    vec4 logit = load(block);
    float mass = 0;
    [[unroll]] for (uint c = 0; c < 4; c++)
        if (before(logit[c], first_id(block) + c, place)) mass += exp(logit[c] - maximum);
    return mass;
}

float mass_before(Place place, float maximum) {
    float mass = 0;
    for (uint b = 0; b < n_blocks(); b++) mass += block_mass(b, place, maximum);
    return workgroup_sum(mass);
}

// A draw from the tokens before a place.
Place draw_before(Place place) {
    Place drawn = Place(PADDING, NONE);
    for (uint b = 0; b < n_blocks(); b++) {
        if (a.blocks.v[first_block() + b].maximum < place.logit) continue;
        vec4 logit = load(b);
        vec4 noisy = logit + noise(first_id(b) / 4, a.tokens.v[row()].position + 1);
        [[unroll]] for (uint c = 0; c < 4; c++)
            if (before(logit[c], first_id(b) + c, place) && noisy[c] > drawn.logit)
                drawn = Place(noisy[c], first_id(b) + c);
    }
    uint id = min(workgroup_first(drawn).id, a.vocab - 1);
    return Place(a.adjusted.v[row() * a.stride + id], id);
}

// Integers in the order of floats.
uint to_key(float value) {
    uint bits = floatBitsToUint(value);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

float from_key(uint key) { return uintBitsToFloat((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key); }

// The key of rank `rank` (1 is the largest) among those from low to high, in passes that each look at 8 bits of them:
// all tokens' logits, or the complements of the ids of the tokens whose logit is `tied`. Leaves in `rank` the rank among
// equal keys and in `equal` how many there are.
uint nth_key(bool ids, float tied, uint low, uint high, inout uint rank, out uint equal) {
    float least = ids ? tied : from_key(low);
    for (;;) {
        uint shift = uint(max(findMSB(high - low) - 7, 0));
        for (uint i = gl_LocalInvocationID.x; i < 256; i += WORKGROUP) bins[i] = 0;
        barrier();
        for (uint b = 0; b < n_blocks(); b++) {
            if (a.blocks.v[first_block() + b].maximum < least) continue;
            vec4 logit = load(b);
            [[unroll]] for (uint c = 0; c < 4; c++) {
                uint key = ids ? ~(first_id(b) + c) : to_key(logit[c]);
                if ((!ids || logit[c] == tied) && key >= low && key <= high) atomicAdd(bins[(key - low) >> shift], 1);
            }
        }
        barrier();
        if (gl_LocalInvocationID.x == 0) {
            found = 255;
            found_rank = rank;
            while (found > 0 && bins[found] < found_rank) found_rank -= bins[found--];
        }
        barrier();
        rank = found_rank;
        equal = bins[found];
        low += found << shift;
        barrier();
        if (shift == 0) return low;
        high = low + min(high - low, (1u << shift) - 1);
    }
}

// A lower bound of the k-th largest logit: k blocks have a token that is not less than the k-th largest of the blocks'
// maxima.
float nth_maximum(uint k) {
    float bound = LOWEST;
    for (uint i = gl_LocalInvocationID.x; i < n_blocks(); i += WORKGROUP) {
        Place block = Place(a.blocks.v[first_block() + i].maximum, i);
        uint rank = 1;
        for (uint j = 0; j < n_blocks(); j++) rank += uint(before(a.blocks.v[first_block() + j].maximum, j, block));
        if (rank == k) bound = block.logit;
    }
    return workgroup_max(bound);
}

// The place that the k likeliest tokens are before.
Place top_k_end(uint top_k, float maximum) {
    uint rank = top_k, equal;
    uint key = nth_key(false, 0, to_key(nth_maximum(top_k)), to_key(maximum), rank, equal);
    Place end = Place(from_key(key), NONE);
    if (rank < equal) end.id = ~nth_key(true, end.logit, ~(a.vocab - 1), ~0u, rank, equal) + 1;
    return end;
}

// Shares the pass over all blocks: the mass before a place. True for the last workgroup alone, which gets it.
bool mass_by_all(Place place, float maximum, out float mass) {
    Shared state = Shared(a.state);
    uint first = row() * (1 + n_blocks());
    float mine = workgroup_sum(block_mass(gl_WorkGroupID.x, place, maximum));
    if (gl_LocalInvocationID.x == 0) {
        state.v[first + 1 + gl_WorkGroupID.x] = floatBitsToUint(mine);
        memoryBarrierBuffer();
        found = atomicAdd(state.v[first], 1);
    }
    barrier();
    mass = 0;
    if (found != n_blocks() - 1) return false;
    memoryBarrierBuffer();
    for (uint b = gl_LocalInvocationID.x; b < n_blocks(); b += WORKGROUP)
        mass += uintBitsToFloat(state.v[first + 1 + b]);
    mass = workgroup_sum(mass);
    if (gl_LocalInvocationID.x == 0) state.v[first] = 0;
    return true;
}

void store(SampleRow s, uint id) {
    Token token = a.tokens.v[row()];
    token.id = id;
    token.position++;
    a.tokens.v[row()] = token;
    a.ring.v[row() * a.ring_size + token.position % a.ring_size] = id;
    if (s.repetition != 1 || s.presence != 0 || s.frequency != 0) s.counts.v[id] = (s.counts.v[id] + 1) | IN_CONTEXT;
}

void main() {
    SampleRow s = settings();
    bool random = s.temperature > 0;
    bool by_count = random && s.top_k > 0 && s.top_k < a.vocab, by_mass = random && s.top_p < 1;
    bool by_all = by_mass && !by_count;
    if (!by_all && gl_WorkGroupID.x > 0) return;

    float maximum = LOWEST, total = 0, mass = 0;
    Place drawn = Place(PADDING, NONE);
    for (uint b = gl_LocalInvocationID.x; b < n_blocks(); b += WORKGROUP) {
        SampleBlock block = a.blocks.v[first_block() + b];
        maximum = max(maximum, block.maximum);
        if (before(block.drawn, block.drawn_id, drawn)) drawn = Place(block.drawn, block.drawn_id);
    }
    maximum = workgroup_max(maximum);
    drawn.id = min(workgroup_first(drawn).id, a.vocab - 1);
    drawn.logit = a.adjusted.v[row() * a.stride + drawn.id];

    Place end = Place(random && s.min_p > 0 ? maximum + log(s.min_p) : LOWEST, NONE);  // what is kept is before it
    if (by_all) {
        for (uint b = gl_LocalInvocationID.x; b < n_blocks(); b += WORKGROUP)
            total += a.blocks.v[first_block() + b].sum * exp(a.blocks.v[first_block() + b].maximum - maximum);
        total = workgroup_sum(total);
        if (!mass_by_all(drawn, maximum, mass)) return;
    } else if (by_count) {
        Place top_k = top_k_end(s.top_k, maximum);
        if (by_mass) total = mass_before(top_k, maximum);
        if (top_k.logit >= end.logit) end = top_k;
    }
    if (!before(drawn.logit, drawn.id, end)) {
        drawn = draw_before(end);
        if (by_mass) mass = mass_before(drawn, maximum);
    } else if (by_count && by_mass) {
        mass = mass_before(drawn, maximum);
    }
    // without any mass before it there is nothing left to draw, however small top_p is
    while (by_mass && mass > 0 && mass >= s.top_p * total) {
        drawn = draw_before(drawn);
        mass = mass_before(drawn, maximum);
    }
    if (gl_LocalInvocationID.x == 0) store(s, drawn.id);
}
