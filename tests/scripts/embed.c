/* A program that embeds Python and calls fastact from a second thread without the GIL, for test_c_interface.py.
   It prints dx, dalpha and relu of the numbers that it makes. */

#include <Python.h>
#include <pthread.h>
#include "fastact.h"

enum { ROWS = 3, CHANNELS = 4, N = ROWS * CHANNELS };
static float x[N], dy[N], alpha[CHANNELS], y[N], dx[N], dalpha[CHANNELS];
static char message[200];

static void *compute(void *status)
{
    const int64_t shape[] = {ROWS, CHANNELS}, channels[] = {CHANNELS};
    const fastact_array a_x = {sizeof a_x, FASTACT_FLOAT32, 2, x, shape, NULL};
    const fastact_array a_dy = {sizeof a_dy, FASTACT_FLOAT32, 2, dy, shape, NULL};
    const fastact_array a_y = {sizeof a_y, FASTACT_FLOAT32, 2, y, shape, NULL};
    const fastact_array a_dx = {sizeof a_dx, FASTACT_FLOAT32, 2, dx, shape, NULL};
    const fastact_array a_alpha = {sizeof a_alpha, FASTACT_FLOAT32, 1, alpha, channels, NULL};
    const fastact_array a_dalpha = {sizeof a_dalpha, FASTACT_FLOAT32, 1, dalpha, channels, NULL};
    fastact_options options = fastact_default_options();
    options.message = message;
    options.message_size = sizeof message;
    *(int *)status = fastact_relu(&a_y, NULL, &a_x, NULL);
    if (!*(int *)status) *(int *)status = fastact_prelu_backward(&a_dx, &a_dalpha, &a_dy, &a_x, &a_alpha, &options);
    return NULL;
}

int main(void)
{
    pthread_t thread;
    PyThreadState *state;
    int i, status = -1;
    for (i = 0; i < N; i++) x[i] = 0.3f * (float)(i - 5), dy[i] = 1.0f / (float)(i + 1);
    for (i = 0; i < CHANNELS; i++) alpha[i] = 0.1f * (float)(i + 1);
    Py_Initialize();
    if (fastact_import()) return PyErr_Print(), 1;
    state = PyEval_SaveThread();
    if (pthread_create(&thread, NULL, compute, &status) || pthread_join(thread, NULL)) return 1;
    PyEval_RestoreThread(state);
    if (status) return fprintf(stderr, "%d: %s\n", status, message), 1;
    for (i = 0; i < N; i++) printf("%a %a ", (double)y[i], (double)dx[i]);
    for (i = 0; i < CHANNELS; i++) printf("%a ", (double)dalpha[i]);
    return Py_FinalizeEx() < 0;
}
