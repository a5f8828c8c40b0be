#include "forward/tuning.h"

#include "base/join.h"

namespace gptoss::model {

std::string Tuning::text() const {
    return join({lanes, decode_splits, batch_splits, batch_tokens, row_tokens, attention_workgroup, attention_keys,
                 attention_value_lanes, attention_splits}) +
           (coopmat()
                ? ", cooperative matrices " + join({coopmat_batch, coopmat_subgroups, coopmat_tokens, coopmat_groups})
                : "") +
           (integer() ? ", integers " + join({integer_batch, integer_tokens}) : "");
}

}  // namespace gptoss::model
