/* Version, status names, devices, and machines without any. */
#define _GNU_SOURCE
#ifndef _WIN32
#include <dlfcn.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#ifndef _WIN32
/* The library opens the Vulkan loader by name at run time; here it finds none when a test wants that. */
__attribute__((visibility("default"))) void* dlopen(const char* file, int flags) {
    void* (*real)(const char*, int);
    *(void**)&real = dlsym(RTLD_NEXT, "dlopen");
    if (file && strstr(file, "libvulkan.so") && getenv("GPTOSS_TEST_NO_LOADER")) return NULL;
    return real(file, flags);
}
#endif

TEST(version_is_the_header_s) {
    CHECK(gptoss_version() == GPTOSS_VERSION_MAJOR * 10000 + GPTOSS_VERSION_MINOR * 100 + GPTOSS_VERSION_PATCH);
}

TEST(every_status_has_a_name) {
    for (int i = 0; i <= gptoss_status_internal_error; i++) {
        CHECK(strlen(gptoss_status_string((enum gptoss_status)i)) > 3);
        CHECK(strcmp(gptoss_status_string((enum gptoss_status)i), gptoss_status_string((enum gptoss_status)(i + 1))) !=
              0);
    }
    CHECK(strcmp(gptoss_status_string((enum gptoss_status) - 5), "unknown status") == 0);
    CHECK(strcmp(gptoss_status_string((enum gptoss_status)12), "unknown status") == 0);
    CHECK(strcmp(gptoss_status_string((enum gptoss_status)2000000000), "unknown status") == 0);
}

TEST(devices_describe_themselves) {
    uint32_t count = 77;
    CHECK_OK(gptoss_device_count(&count));
    CHECK(count >= 1 && count < 77);
    for (uint32_t i = 0; i < count; i++) {
        struct gptoss_device_info info;
        memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        CHECK_OK(gptoss_device_get_info(i, &info));
        CHECK(strlen(info.name) > 0 && strlen(info.name) < sizeof info.name);
        CHECK(strlen(info.driver) > 0 || !info.supported);
        CHECK(info.struct_size == sizeof info);
        if (!info.supported) continue;
        CHECK(info.memory_size > 0 && info.memory_available > 0 && info.memory_available <= info.memory_size);
        CHECK(info.subgroup_size > 0 && info.max_allocation_size > 0);
        CHECK(info.tier == gptoss_kernel_tier_exact || info.tier == gptoss_kernel_tier_coopmat);
    }
    CHECK_FAILS(gptoss_status_invalid_argument, "count_out", gptoss_device_count(NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "info_out", gptoss_device_get_info(0, NULL));
}

TEST(a_device_that_is_not_there) {
    struct gptoss_device_info info;
    memset(&info, 'x', sizeof info);
    info.struct_size = sizeof info;
    CHECK_FAILS(gptoss_status_invalid_argument, "4000000000", gptoss_device_get_info(4000000000u, &info));
    CHECK(info.name[0] == 0 && info.memory_size == 0);

    /* a number is an index only: "1", "15" and "256" are in the names that drivers of software devices have */
    const char* const names[] = {"no such device",       "99", "15", "256", "-1", "4294967296", "0x0",
                                 "18446744073709551616", " 0", "0 "};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct gptoss_model_options options = model_options();
        gptoss_model_t model = (gptoss_model_t)&options;
        options.device = names[i];
        CHECK_FAILS(gptoss_status_invalid_argument, names[i], gptoss_model_create(golden("tiny"), &options, &model));
        CHECK(!model);
    }
}

static bool loads_on(const char* device, uint32_t* index_out) {
    struct gptoss_model_options options = model_options();
    struct gptoss_model_info info;
    gptoss_model_t model;
    options.device = device;
    if (gptoss_model_create(golden("tiny"), &options, &model) != gptoss_status_success) return false;
    info.struct_size = sizeof info;
    CHECK_OK(gptoss_model_get_info(model, &info));
    *index_out = info.device;
    CHECK_OK(gptoss_model_release(model));
    return true;
}

TEST(a_number_is_an_index_and_a_uuid_a_device) {
    uint32_t count, found = 77;
    struct gptoss_device_info info;
    info.struct_size = sizeof info;
    CHECK_OK(gptoss_device_count(&count));
    for (uint32_t i = 0; i < count; i++) {
        char name[60], digits[20];
        snprintf(digits, sizeof digits, "%u", i);
        CHECK_OK(gptoss_device_get_info(i, &info));
        if (!info.supported) continue;
        CHECK(strlen(info.uuid) == 36 && info.uuid[8] == '-' && info.uuid[23] == '-');
        CHECK(loads_on(digits, &found) && found == i);
        CHECK(loads_on(info.uuid, &found));
        if (count == 1) CHECK(found == i); /* copies of one software device have one UUID */
        snprintf(name, sizeof name, "GPU-%s", info.uuid);
        for (char* c = name; *c; c++)
            if (*c >= 'a' && *c <= 'f') *c -= 'a' - 'A';
        CHECK(loads_on(name, &found));
        name[39] = name[39] == '0' ? '1' : '0';
        CHECK(!loads_on(name, &found));
    }
    char past[20];
    snprintf(past, sizeof past, "%u", count);
    struct gptoss_model_options options = model_options();
    gptoss_model_t model;
    options.device = past;
    CHECK_FAILS(gptoss_status_invalid_argument, count == 1 ? "there is one, device 0" : "there are",
                gptoss_model_create(golden("tiny"), &options, &model));
}

TEST(an_older_caller_s_device_info_is_filled_as_far_as_it_goes) {
    struct gptoss_device_info info;
    memset(&info, 'x', sizeof info);
    info.struct_size = offsetof(struct gptoss_device_info, uuid); /* version 0.1 */
    CHECK_OK(gptoss_device_get_info(0, &info));
    CHECK(strlen(info.name) < sizeof info.name);
    CHECK(info.uuid[0] == 'x' && info.uuid[39] == 'x');
    CHECK(info.struct_size == offsetof(struct gptoss_device_info, uuid));
    for (info.struct_size = 0; info.struct_size < offsetof(struct gptoss_device_info, uuid); info.struct_size++)
        CHECK_FAILS(gptoss_status_invalid_argument, "struct_size", gptoss_device_get_info(0, &info));

    struct {
        struct gptoss_device_info info;
        char newer[64];
    } larger;
    memset(&larger, 'x', sizeof larger);
    larger.info.struct_size = sizeof larger;
    CHECK_OK(gptoss_device_get_info(0, &larger.info));
    CHECK(larger.info.memory_size > 0);
    CHECK(larger.newer[0] == 'x');
}

TEST(bandwidth_is_measured) {
    double rate = -1;
    CHECK_OK(gptoss_device_measure_bandwidth(0, &rate));
    CHECK(rate > 1e8 && rate < 1e14);
    CHECK_FAILS(gptoss_status_invalid_argument, "4000000000", gptoss_device_measure_bandwidth(4000000000u, &rate));
    CHECK(rate == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "bytes_per_second_out", gptoss_device_measure_bandwidth(0, NULL));
}

#ifndef _WIN32 /* where what starts the tests has to set these */
TEST(machines_without_vulkan) {
    run_alone("without_vulkan", "GPTOSS_TEST_NO_LOADER", "1");
    run_alone("without_vulkan", "VK_ICD_FILENAMES", "/nonexistent.json");
    run_alone("without_vulkan", "VK_DRIVER_FILES", "/nonexistent.json");
}
#endif

TEST_ALONE(without_vulkan) {
    struct gptoss_device_info info;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    for (int again = 0; again < 2; again++) {
        uint32_t count = 77;
        gptoss_model_t model = (gptoss_model_t)&info;
        CHECK_OK(gptoss_device_count(&count));
        CHECK(count == 0);
        CHECK_FAILS(gptoss_status_invalid_argument, "device 0", gptoss_device_get_info(0, &info));
        CHECK_FAILS(gptoss_status_unsupported_system, "Vulkan", gptoss_model_create_from_file(golden("tiny"), &model));
        CHECK(!model);
    }
    /* what needs no device works */
    gptoss_sampler_t sampler;
    CHECK_OK(gptoss_sampler_create(&sampler));
    CHECK_OK(gptoss_sampler_release(sampler));
    gptoss_tokenizer_t tokenizer;
    CHECK_OK(gptoss_tokenizer_create(NULL, &tokenizer));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
}
