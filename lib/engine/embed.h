// Embeddings: a vector for each of many texts, made of the states after the final norm. Unembeddings: the logits that
// states stand for.
#pragma once

#include <memory>
#include <span>

#include "engine/model.h"

namespace gptoss::model {

// The values of enum gptoss_pooling.
enum class Pooling { Last, Mean };

// Fills out, (texts, hidden), with the last token's state of each text or the mean over its tokens, scaled to length 1
// if it is to be normalized. No text is empty. Texts share batches. Throws InvalidArgument or ContextOverflow, which
// name the text by its number, InsufficientMemory, DeviceLost.
void embed(const std::shared_ptr<const Model>& model, std::span<const std::span<const uint32_t>> texts, Pooling pooling,
           bool normalize, float* out);

// Fills out, (n, vocab), with the logits of residual states, (n, hidden), by the final norm and the unembedding. Throws
// InsufficientMemory, DeviceLost.
void unembed(const Model& model, std::span<const float> states, float* out);

}  // namespace gptoss::model
