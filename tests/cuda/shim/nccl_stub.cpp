// In place of libnccl.so.2: says what it is called with, and does nothing. CuPy's own binding loads on top of it, so that
// names, arguments and constants can be checked where neither NCCL nor a GPU is.
#include <cstdio>

typedef void *Comm;
struct UniqueId {
    char bytes[128];
};

#define SAY(...) (std::printf(__VA_ARGS__), std::fflush(stdout), 0)

extern "C" {
int ncclGetVersion(int *version) { return *version = 22707, 0; }
int ncclGetUniqueId(UniqueId *id) {
    for (int i = 0; i < 128; i++) id->bytes[i] = char(2 * i);
    return 0;
}
int ncclCommInitRankConfig(Comm *comm, int size, UniqueId id, int rank, void *) {
    *comm = comm;  // any address but none
    int same = 1;
    for (int i = 0; i < 128; i++) same &= id.bytes[i] == char(2 * i);
    return SAY("init rank %d of %d, %s id\n", rank, size, same ? "the same" : "another");
}
int ncclAllReduce(const void *send, void *receive, size_t count, int type, int op, Comm, void *stream) {
    return SAY("allReduce %p to %p, %zu of type %d, op %d, stream %p\n", send, receive, count, type, op, stream);
}
int ncclBcast(void *data, size_t count, int type, int root, Comm, void *stream) {
    return SAY("bcast %p, %zu of type %d, root %d, stream %p\n", data, count, type, root, stream);
}
const char *ncclGetErrorString(int) { return "stub"; }

// The rest of what CuPy's binding asks for.
#define UNUSED(name) int name() { return SAY(#name "\n"); }
UNUSED(ncclAllGather) UNUSED(ncclBroadcast) UNUSED(ncclCommAbort) UNUSED(ncclCommCount) UNUSED(ncclCommCuDevice)
UNUSED(ncclCommDestroy) UNUSED(ncclCommGetAsyncError) UNUSED(ncclCommInitAll) UNUSED(ncclCommInitRank)
UNUSED(ncclCommSplit) UNUSED(ncclCommUserRank) UNUSED(ncclGroupEnd) UNUSED(ncclGroupStart) UNUSED(ncclRecv)
UNUSED(ncclReduce) UNUSED(ncclReduceScatter) UNUSED(ncclSend)
}
