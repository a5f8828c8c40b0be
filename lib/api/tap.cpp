#include <algorithm>

#include "api/context.h"

using namespace gptoss;
using namespace gptoss::api;

static_assert(static_cast<int>(model::kTapHidden) == gptoss_tap_kind_hidden);
static_assert(static_cast<int>(model::kTapAttention) == gptoss_tap_kind_attention);
static_assert(model::kTapKinds == 2 * gptoss_tap_kind_attention - 1);

namespace {

// Hands what is tapped to the callback, and stores it.
class TapReceiver {
  public:
    explicit TapReceiver(const gptoss_tap_options& options) : options_(options) {}

    void operator()(const model::Tapped& tapped) {
        if (options_.values_out) {
            const size_t n = tapped.values.size();
            const size_t room = stored_ < options_.max_values ? options_.max_values - stored_ : 0;
            std::copy_n(tapped.values.begin(), std::min(n, room),
                        options_.values_out + std::min(stored_, options_.max_values));
            stored_ += n;
            if (options_.num_values_out) *options_.num_values_out = stored_;
        }
        if (!options_.callback) return;
        const gptoss_tap tap{sizeof tap,          static_cast<gptoss_tap_kind>(tapped.kind),
                             tapped.layer,        tapped.position,
                             tapped.rows,         tapped.columns,
                             tapped.values.data()};
        if (call_back(options_.callback, options_.user_data, &tap) != 0)
            throw Error(Status::Cancelled, "cancelled by the tap's callback");
    }

  private:
    const gptoss_tap_options options_;
    size_t stored_ = 0;
};

model::Tap tap_of(const gptoss_tap_options& in, const io::Config& config) {
    if (in.kinds == 0 || (in.kinds & ~model::kTapKinds))
        throw Error(Status::InvalidArgument, "options.kinds is " + std::to_string(in.kinds) +
                                                 ": one or several of enum gptoss_tap_kind, which together are " +
                                                 std::to_string(model::kTapKinds));
    if (!in.callback && !in.values_out)
        throw Error(Status::InvalidArgument, "options.callback and options.values_out are both NULL");
    if (in.num_layers) require(in.layers, "options.layers");
    if (in.num_positions) require(in.positions, "options.positions");
    model::Tap tap;
    tap.kinds = in.kinds;
    tap.layers.assign(config.n_layers, in.layers == nullptr);
    for (size_t i = 0; i < in.num_layers; i++) {
        if (in.layers[i] >= config.n_layers)
            throw Error(Status::InvalidArgument, "options.layers[" + std::to_string(i) + "] is " +
                                                     std::to_string(in.layers[i]) + "; the model has " +
                                                     std::to_string(config.n_layers) + " layers");
        tap.layers[in.layers[i]] = true;
    }
    tap.first_position = static_cast<uint32_t>(std::min<size_t>(in.first_position, UINT32_MAX));
    if (in.positions) {
        tap.positions.assign(in.positions, in.positions + in.num_positions);
        std::sort(tap.positions.begin(), tap.positions.end());
        if (tap.positions.empty()) tap.first_position = UINT32_MAX;  // none is wanted
    }
    tap.on_tapped = TapReceiver(in);
    return tap;
}

}  // namespace

gptoss_status gptoss_context_set_tap(gptoss_context_t context, const gptoss_tap_options* options) {
    return guard([&] {
        const Use use(context);
        if (!options) return use->set_tap(std::nullopt);
        const gptoss_tap_options in = read_struct(options, "options");
        use->set_tap(tap_of(in, use->model().config));
        if (in.num_values_out) *in.num_values_out = 0;
    });
}
