//! The vendor's C interface: types, constants, and the functions as they are found in the
//! opened library. Names are the vendor's.

use std::ffi::{c_char, c_void};

/// `aclError` and `aclnnStatus`: 0 is success.
pub(crate) type Status = i32;
/// `aclrtContext`, `aclrtStream`, `aclmdlRI`: opaque to us.
pub(crate) type Handle = *mut c_void;
/// `aclOpExecutor *`: an operator made ready by its first phase.
pub(crate) type Executor = *mut c_void;
/// `aclTensor *`.
pub(crate) type TensorHandle = *const c_void;
/// `aclTensorList *`.
pub(crate) type ListHandle = *const c_void;
/// `aclScalar *`.
pub(crate) type ScalarHandle = *const c_void;
/// `aclIntArray *`; only passed as null.
pub(crate) type IntsHandle = *const c_void;

/// `ACL_ERROR_REPEAT_INITIALIZE`.
pub(crate) const REPEAT_INITIALIZE: Status = 100_002;
/// `ACL_FORMAT_ND`: no order of axes that would mean anything.
pub(crate) const FORMAT_ND: i32 = 2;
/// `ACL_MEM_MALLOC_HUGE_FIRST`: huge pages where there are any.
pub(crate) const MALLOC_HUGE_FIRST: i32 = 0;
/// `ACL_MEMCPY_HOST_TO_DEVICE` and so on.
pub(crate) const HOST_TO_DEVICE: i32 = 1;
/// See [`HOST_TO_DEVICE`].
pub(crate) const DEVICE_TO_HOST: i32 = 2;
/// See [`HOST_TO_DEVICE`].
pub(crate) const DEVICE_TO_DEVICE: i32 = 3;
/// `ACL_MODEL_RI_CAPTURE_MODE_THREAD_LOCAL`: only the capturing thread is kept from calls
/// that a capture cannot hold.
pub(crate) const CAPTURE_THREAD_LOCAL: i32 = 1;
/// `ACL_HBM_MEM`.
pub(crate) const HBM_MEMORY: i32 = 1;

/// `aclDataType`, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum DataType {
    /// 32-bit float.
    F32 = 0,
    /// 16-bit float.
    F16 = 1,
    /// 32-bit integer.
    I32 = 3,
    /// One byte, 0 or 1.
    Bool = 12,
    /// 16-bit float with f32's range.
    Bf16 = 27,
}

impl DataType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Bool => 1,
        }
    }
}

/// An operator's second phase: workspace, its bytes, executor, stream.
pub(crate) type Launch = unsafe extern "C" fn(*mut c_void, u64, Executor, Handle) -> Status;

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),* $(,)?) -> $result:ty;)*) => {
        /// The functions that are called, each as its header declares it.
        #[allow(non_snake_case, reason = "the names are the vendor's")]
        pub(crate) struct Functions {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl Functions {
            /// Finds each function by its name; `find` gives its address.
            ///
            /// # Errors
            /// What `find` says of the first that is missing.
            ///
            /// # Safety
            /// What `find` gives must be the vendor's function of that name, and stay
            /// loaded.
            pub(crate) unsafe fn load<E>(
                find: impl Fn(&'static str) -> Result<*mut c_void, E>,
            ) -> Result<Self, E> {
                Ok(Self {
                    $($name: {
                        let address = find(stringify!($name))?;
                        // SAFETY: an address of a function is as wide as a pointer to
                        // it, it is not null where it was found, and by the caller's
                        // promise it has this signature.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) -> $result,
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    // acl/acl_base.h, acl/acl_rt.h, acl/acl_mdl.h
    aclInit: fn(*const c_char) -> Status;
    aclFinalize: fn() -> Status;
    aclGetRecentErrMsg: fn() -> *const c_char;
    aclrtGetSocName: fn() -> *const c_char;
    aclrtGetDeviceCount: fn(*mut u32) -> Status;
    aclrtSetDevice: fn(i32) -> Status;
    aclrtResetDevice: fn(i32) -> Status;
    aclrtCreateContext: fn(*mut Handle, i32) -> Status;
    aclrtDestroyContext: fn(Handle) -> Status;
    aclrtSetCurrentContext: fn(Handle) -> Status;
    aclrtCreateStream: fn(*mut Handle) -> Status;
    aclrtDestroyStream: fn(Handle) -> Status;
    aclrtSynchronizeStream: fn(Handle) -> Status;
    aclrtMalloc: fn(*mut *mut c_void, usize, i32) -> Status;
    aclrtFree: fn(*mut c_void) -> Status;
    aclrtMemcpy: fn(*mut c_void, usize, *const c_void, usize, i32) -> Status;
    aclrtMemcpyAsync: fn(*mut c_void, usize, *const c_void, usize, i32, Handle) -> Status;
    aclrtGetMemInfo: fn(i32, *mut usize, *mut usize) -> Status;
    aclmdlRICaptureBegin: fn(Handle, i32) -> Status;
    aclmdlRICaptureEnd: fn(Handle, *mut Handle) -> Status;
    aclmdlRIExecuteAsync: fn(Handle, Handle) -> Status;
    aclmdlRIDestroy: fn(Handle) -> Status;

    // aclnn/acl_meta.h
    aclCreateTensor: fn(
        *const i64, u64, i32, *const i64, i64, i32, *const i64, u64, *mut c_void,
    ) -> TensorHandle;
    aclDestroyTensor: fn(TensorHandle) -> Status;
    aclCreateTensorList: fn(*const TensorHandle, u64) -> ListHandle;
    aclDestroyTensorList: fn(ListHandle) -> Status;
    aclCreateScalar: fn(*mut c_void, i32) -> ScalarHandle;
    aclDestroyScalar: fn(ScalarHandle) -> Status;
    aclDestroyAclOpExecutor: fn(Executor) -> Status;

    // aclnnop/*.h: first phases, then second ones
    aclnnIndexSelectGetWorkspaceSize: fn(
        TensorHandle, i64, TensorHandle, TensorHandle, *mut u64, *mut Executor,
    ) -> Status;
    aclnnIndexSelect: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnCastGetWorkspaceSize: fn(
        TensorHandle, i32, TensorHandle, *mut u64, *mut Executor,
    ) -> Status;
    aclnnCast: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnInplaceMulsGetWorkspaceSize: fn(
        TensorHandle, ScalarHandle, *mut u64, *mut Executor,
    ) -> Status;
    aclnnInplaceMuls: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnInplaceAddGetWorkspaceSize: fn(
        TensorHandle, TensorHandle, ScalarHandle, *mut u64, *mut Executor,
    ) -> Status;
    aclnnInplaceAdd: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnInplaceMulGetWorkspaceSize: fn(
        TensorHandle, TensorHandle, *mut u64, *mut Executor,
    ) -> Status;
    aclnnInplaceMul: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnMatmulGetWorkspaceSize: fn(
        TensorHandle, TensorHandle, TensorHandle, i8, *mut u64, *mut Executor,
    ) -> Status;
    aclnnMatmul: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnRmsNormGetWorkspaceSize: fn(
        TensorHandle, TensorHandle, f64, TensorHandle, TensorHandle, *mut u64, *mut Executor,
    ) -> Status;
    aclnnRmsNorm: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnRotaryPositionEmbeddingGetWorkspaceSize: fn(
        TensorHandle, TensorHandle, TensorHandle, i64, TensorHandle, *mut u64, *mut Executor,
    ) -> Status;
    aclnnRotaryPositionEmbedding: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnSiluGetWorkspaceSize: fn(TensorHandle, TensorHandle, *mut u64, *mut Executor) -> Status;
    aclnnSilu: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnGeluV2GetWorkspaceSize: fn(
        TensorHandle, i64, TensorHandle, *mut u64, *mut Executor,
    ) -> Status;
    aclnnGeluV2: fn(*mut c_void, u64, Executor, Handle) -> Status;
    aclnnFusedInferAttentionScoreV2GetWorkspaceSize: fn(
        TensorHandle, // query
        ListHandle, // key
        ListHandle, // value
        TensorHandle, // pseShift
        TensorHandle, // attenMask
        IntsHandle, // actualSeqLengths
        IntsHandle, // actualSeqLengthsKv
        TensorHandle, // deqScale1
        TensorHandle, // quantScale1
        TensorHandle, // deqScale2
        TensorHandle, // quantScale2
        TensorHandle, // quantOffset2
        TensorHandle, // antiquantScale
        TensorHandle, // antiquantOffset
        TensorHandle, // blockTable
        TensorHandle, // queryPaddingSize
        TensorHandle, // kvPaddingSize
        TensorHandle, // keyAntiquantScale
        TensorHandle, // keyAntiquantOffset
        TensorHandle, // valueAntiquantScale
        TensorHandle, // valueAntiquantOffset
        TensorHandle, // keySharedPrefix
        TensorHandle, // valueSharedPrefix
        IntsHandle, // actualSharedPrefixLen
        i64, // numHeads
        f64, // scaleValue
        i64, // preTokens
        i64, // nextTokens
        *mut c_char, // inputLayout
        i64, // numKeyValueHeads
        i64, // sparseMode
        i64, // innerPrecise
        i64, // blockSize
        i64, // antiquantMode
        bool, // softmaxLseFlag
        i64, // keyAntiquantMode
        i64, // valueAntiquantMode
        TensorHandle, // attentionOut
        TensorHandle, // softmaxLse
        *mut u64,
        *mut Executor,
    ) -> Status;
    aclnnFusedInferAttentionScoreV2: fn(*mut c_void, u64, Executor, Handle) -> Status;
}
