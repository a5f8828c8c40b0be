#!/bin/sh
# Runs a command under the Vulkan validation layer, synchronization validation included: sh tests/validation.sh CMD ...
# Fails if the command fails, if the layer has anything to say, or if it was never loaded.
#
# Kernels reach memory by address, which synchronization validation cannot follow: it sees copies, not what one dispatch
# leaves for the next.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# newer layers warn that `enables` has a new name, which older ones do not know
cat > "$dir/vk_layer_settings.txt" <<END
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn,perf
khronos_validation.log_filename = $dir/log
khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
khronos_validation.message_id_filter = VALIDATION-SETTINGS
END
VK_LAYER_SETTINGS_PATH="$dir/vk_layer_settings.txt" VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation "$@"
status=$?
if [ ! -e "$dir/log" ]; then
    echo "the validation layer was not loaded" >&2
    exit 1
fi
if [ -s "$dir/log" ]; then
    cat "$dir/log" >&2
    exit 1
fi
exit $status
