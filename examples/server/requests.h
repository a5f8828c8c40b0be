// The fields that several endpoints share.
#pragma once

#include "fields.h"
#include "turn.h"

namespace server {

// Refuses what no endpoint can do yet, by name, and a model that is not this one where the server is strict.
void check_common(const Service& service, const Field& body);

Sampling read_sampling(const Service& service, const Field& body);

// A string, or up to four of them, as "stop".
std::vector<std::string> read_stop(const Field& stop);

// The first of these fields that is given; 0 for no limit.
size_t read_max_tokens(std::initializer_list<Field> fields);

// Reads how many of the likeliest tokens are wanted with each one's log-probability, if those are wanted.
std::optional<uint32_t> read_top_logprobs(const Field& top_logprobs, bool wanted);

// "low", "medium" or "high", which the model knows; what clients say beyond it becomes the nearest one.
std::string read_effort(const Field& effort);

// Such as "chatcmpl-" and 24 random letters and digits.
std::string new_id(const char* prefix);

}  // namespace server
