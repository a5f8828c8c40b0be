#!/bin/sh
# Runs a command under the Vulkan validation layer, synchronization validation included: sh tests/validation.sh CMD ...
# Fails if the command fails, if the layer has anything to say, or if there is no such layer.
#
# Kernels reach memory by address, which synchronization validation cannot follow: it sees copies and the host, not what
# one dispatch leaves for the next.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat > "$dir/vk_layer_settings.txt" <<END
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn,perf,info
khronos_validation.log_filename = $dir/log
khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
khronos_validation.validate_sync = true
END
export VK_LAYER_SETTINGS_PATH="$dir/vk_layer_settings.txt" VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation
"$@"
status=$?
cat "$dir/log"
exit $status
